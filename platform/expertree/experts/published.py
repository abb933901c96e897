"""Read weights that others published: files of a state dict, under the public code's names."""

import dataclasses
import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from expertree.errors import ArtefactError
from expertree.experts.backbones import (
    BackboneConfig,
    build_backbone,
    published_beyond,
    published_unused,
)
from expertree.storage import Storage

SAFETENSORS = ".safetensors"
PICKLED = (".pth", ".pt", ".ckpt", ".bin")
"""Suffixes of files that torch's weights-only reader reads, which runs no code of the file."""

CONTAINERS = ("params_ema", "params", "state_dict")
"""Keys under which public training code saves the weights: BasicSR's average, BasicSR, others."""

WRAPPERS = ("module.", "net.")
"""Prefixes that DataParallel, and the Lightning modules of this field, put before every name."""

_MAX_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublishedWeights:
    """A file of weights, identified by its content.

    Attributes:
        uri: Address of the file; every process that trains from it must be able to read it.
        sha256: SHA-256 of the file.
    """

    uri: str
    sha256: str


def find_published(uri: str) -> PublishedWeights:
    """Return a file of weights with the hash of its content.

    Raises:
        ArtefactError: If it cannot be read.
        StorageError: If no filesystem is known for the URI.
    """
    directory, name = _split(uri)
    sha256 = hashlib.sha256(directory.read_bytes(name)).hexdigest()
    return PublishedWeights(uri=directory.sub(name).uri, sha256=sha256)


def read_published(weights: PublishedWeights) -> dict[str, Tensor]:
    """Read a file of weights: safetensors, or what `torch.save` wrote.

    The state dict may lie under one of `CONTAINERS`, and its names may all begin with one of
    `WRAPPERS`.

    Raises:
        ArtefactError: If the file is not what it was, or holds anything but named tensors.
    """
    directory, name = _split(weights.uri)
    data = directory.read_bytes(name)
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise ArtefactError(f"{weights.uri} has changed since the build was planned")
    read = _read_safetensors if name.endswith(SAFETENSORS) else _read_pickled
    content = read(data, weights.uri)
    strange = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strange or not content:
        raise ArtefactError(
            f"{weights.uri} is no state dict: "
            + (f"{_some(strange)} are not tensors" if strange else "it is empty")
            + f"; it may lie under {', '.join(CONTAINERS)}"
        )
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in content):
            content = {key.removeprefix(wrapper): value for key, value in content.items()}
    return content


def load_published(network: nn.Module, backbone: BackboneConfig, weights: PublishedWeights) -> None:
    """Load published weights into a network.

    Args:
        network: The network; changed in place.
        backbone: Its settings.
        weights: The file.

    Raises:
        ArtefactError: If they cannot be read or do not fit; says which names, and how many.
    """
    content = _used(backbone, weights)
    _check_fit(network, content, weights.uri, published_beyond(backbone))
    network.load_state_dict(content, strict=False)


def check_published(backbone: BackboneConfig, weights: PublishedWeights) -> None:
    """Check that weights fit a network, without making it.

    Raises:
        ArtefactError: If they cannot be read or do not fit; says which names, and how many.
    """
    with torch.device("meta"):
        network = build_backbone(backbone, fast=False)
    _check_fit(network, _used(backbone, weights), weights.uri, published_beyond(backbone))


def _used(backbone: BackboneConfig, weights: PublishedWeights) -> dict[str, Tensor]:
    """Return the weights of a file without those of layers that the network never uses."""
    unused = published_unused(backbone)
    content = read_published(weights)
    return {name: value for name, value in content.items() if not name.startswith(unused)}


def _check_fit(
    network: nn.Module, content: Mapping[str, Tensor], where: str, beyond: tuple[str, ...]
) -> None:
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in content and not name.startswith(beyond)]
    unknown = [name for name in content if name not in wanted]
    other = [
        f"{name} {list(content[name].shape)} (not {list(value.shape)})"
        for name, value in wanted.items()
        if name in content and content[name].shape != value.shape
    ]
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in (
            (missing, "missing"),
            (unknown, "unknown"),
            (other, "of another shape"),
        )
        if names
    ]
    if problems:
        raise ArtefactError(
            f"{where} does not fit a network of {len(wanted)} tensors: {', '.join(problems)}; "
            "choose the backbone whose weights these are"
        )


def _read_safetensors(data: bytes, where: str) -> dict[str, Any]:
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise ArtefactError(f"{where} is damaged: {error}") from error


def _read_pickled(data: bytes, where: str) -> dict[str, Any]:
    if not where.endswith(PICKLED):
        raise ArtefactError(f"{where} is none of {', '.join((SAFETENSORS, *PICKLED))}")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArtefactError(f"{where} cannot be read as weights alone: {reason}") from error
    while isinstance(content, Mapping) and (inner := _container(content)) is not None:
        content = content[inner]
    if not isinstance(content, Mapping):
        raise ArtefactError(f"{where} holds {type(content).__name__}, not a state dict")
    return dict(content)


def _container(content: Mapping[str, Any]) -> str | None:
    return next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)


def _split(uri: str) -> tuple[Storage, str]:
    file = Storage.open(uri)
    return file.above(), file.name


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = ", ..." if len(listed) > _MAX_NAMED else ""
    return ", ".join(str(name) for name in listed[:_MAX_NAMED]) + more
