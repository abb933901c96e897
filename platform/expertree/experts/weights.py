"""Write and read experts: weights under the published names, and a card that describes them.

An expert that is an adapter (METHOD section 4) is stored as its changes to the root's weights; it
opens together with the root, which it names by the hash of its weights.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from expertree import config
from expertree.errors import ArtefactError, ConfigError
from expertree.experts.adapter import Adapter, AdapterConfig, adapter_shapes, merge
from expertree.experts.backbones import (
    Backbone,
    build_backbone,
)
from expertree.experts.recipe import ExpertJob
from expertree.storage import Storage

WEIGHTS = "expert.safetensors"
ADAPTER = "adapter.safetensors"
CARD = "expert.json"

_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Root:
    """The expert whose weights an adapter changes.

    Attributes:
        key: Name of its result.
        sha256: SHA-256 of its weights' file.
    """

    key: str
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """The description of an expert in `expert.json`.

    Attributes:
        version: Format version of the file.
        key: Name of the result.
        backbone: The network.
        num_samples: Samples seen in its own training.
        num_parameters: Scalars in the weights' file.
        sha256: SHA-256 of the weights' file.
        adapter: Settings of the adapter; None if the expert is a whole network by itself.
        root: The root that the adapter changes; None if the expert is a whole network.
        extractor: Key of the extractor that told the network of its samples; None if none did.
    """

    version: int
    key: str
    backbone: Backbone
    num_samples: int
    num_parameters: int
    sha256: str
    adapter: AdapterConfig | None = None
    root: Root | None = None
    extractor: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for an adapter or a root alone."""
        if (self.adapter is None) != (self.root is None):
            raise ValueError("an adapter and its root come together")

    @property
    def weights(self) -> str:
        """Name of the weights' file."""
        return WEIGHTS if self.adapter is None else ADAPTER


def save_expert(
    directory: Storage,
    weights: Mapping[str, Tensor],
    job: ExpertJob,
    *,
    num_samples: int | None = None,
) -> str:
    """Write an expert; the same weights always give the same bytes.

    Args:
        directory: Directory to write to.
        weights: A state dict, or an adapter's tensors.
        job: The job that trained it.
        num_samples: Samples that it has seen; all of the job's by default.

    Returns:
        The SHA-256 of the weights' file.

    Raises:
        ArtefactError: If the job's root cannot be read.
        StorageError: If the expert cannot be written.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    data = safetensors.torch.save(plain)
    sha256 = hashlib.sha256(data).hexdigest()
    card: dict[str, Any] = {
        "version": _VERSION,
        "key": job.key,
        "backbone": dataclasses.asdict(job.backbone),
        "num_samples": job.num_samples if num_samples is None else num_samples,
        "num_parameters": sum(value.numel() for value in plain.values()),
        "sha256": sha256,
    }
    if job.adapter is not None and job.init is not None:
        root = read_card(Storage.open(job.init))
        card["adapter"] = config.to_dict(job.adapter)
        card["root"] = {"key": root.key, "sha256": root.sha256}
    if job.extractor is not None:
        card["extractor"] = Storage.open(job.extractor).name
    directory.write_bytes(WEIGHTS if job.adapter is None else ADAPTER, data)
    directory.write_json(CARD, card)
    return sha256


def load_expert(directory: Storage, *, root: Storage | None = None) -> nn.Module:
    """Open an expert as a network of its own.

    Args:
        directory: Directory that `save_expert` wrote.
        root: Directory of the root, if the expert is an adapter; a whole network needs none.

    Returns:
        The network in evaluation mode, on the CPU; an adapter is merged into the root's weights.

    Raises:
        ArtefactError: If a file is missing or damaged, the weights do not fit the backbone, or the
            root is missing or not the one that the adapter was trained on.
    """
    card = read_card(directory)
    network = build_backbone(card.backbone)
    if card.root is None:
        load_weights(network, directory)
        return network.eval()
    if root is None:
        raise ArtefactError(
            f"{directory.where()} is an adapter; open it with its root, expert {card.root.key}"
        )
    check_shapes(directory)
    check_root(directory, root)
    load_weights(network, root)
    weights = network.state_dict()
    merge(weights, read_adapter(directory), into=weights)
    return network.eval()


def load_weights(network: nn.Module, directory: Storage) -> None:
    """Load the weights of a stored expert that is a whole network into a network.

    Raises:
        ArtefactError: If a file is missing or damaged, it is an adapter, or the weights have other
            names or shapes.
    """
    card = read_card(directory)
    if card.adapter is not None:
        raise ArtefactError(f"{directory.where()} is an adapter, a whole network is needed")
    try:
        network.load_state_dict(_read_tensors(directory, card))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ArtefactError(
            f"{directory.where(WEIGHTS)} does not fit the network: {reason}"
        ) from error


def read_adapter(directory: Storage) -> Adapter:
    """Read an expert's changes to the root's network.

    Raises:
        ArtefactError: If a file is missing or damaged, or it is a whole network.
    """
    card = read_card(directory)
    if card.adapter is None:
        raise ArtefactError(f"{directory.where()} is a whole network, not an adapter")
    return Adapter(config=card.adapter, tensors=_read_tensors(directory, card))


def read_card(directory: Storage) -> Card:
    """Read the card of a stored expert.

    Raises:
        ArtefactError: If the card cannot be read.
    """
    where, data = directory.path(CARD), directory.read_json(CARD)
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise ArtefactError(f"{where} does not describe an expert of version {_VERSION}")
    try:
        return config.load(Card, data)
    except ConfigError as error:
        raise ArtefactError(f"{where} does not describe an expert: {error}") from error


def check_root(directory: Storage, root: Storage) -> None:
    """Check that an adapter was trained on an expert's weights.

    Raises:
        ArtefactError: If it was trained on others, or that expert is no whole network.
    """
    wanted, found = read_card(directory), read_card(root)
    if wanted.root is None or found.root is not None:
        raise ArtefactError(f"{directory.where()} is no adapter on {root.where()}")
    if (wanted.root.sha256, wanted.backbone) != (found.sha256, found.backbone):
        raise ArtefactError(
            f"{directory.where()} is an adapter on expert {wanted.root.key} "
            f"({wanted.root.sha256[:12]}), not on {root.where()}, which is expert {found.key} "
            f"({found.sha256[:12]})"
        )


def check_shapes(directory: Storage) -> None:
    """Compare names and shapes on disk with those of the card's network, without making it.

    Raises:
        ArtefactError: If a file is missing or damaged, or a tensor is missing, left over or of
            another shape; names it.
    """
    card = read_card(directory)
    wanted = _wanted_shapes(card)
    tensors = _parse(directory, card, directory.read_bytes(card.weights))
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ArtefactError(
                f"{directory.where(card.weights)} has '{name}' of shape {found.get(name)}, but the "
                f"network in {CARD} needs {wanted.get(name)}"
            )


def _wanted_shapes(card: Card) -> dict[str, tuple[int, ...]]:
    if card.adapter is not None:
        return adapter_shapes(card.backbone, card.adapter)
    with torch.device("meta"):
        network = build_backbone(card.backbone)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _read_tensors(directory: Storage, card: Card) -> dict[str, Tensor]:
    data = directory.read_bytes(card.weights)
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ArtefactError(
            f"{directory.where(card.weights)} is damaged: its hash is not the one in {CARD}"
        )
    return _parse(directory, card, data)


def _parse(directory: Storage, card: Card, data: bytes) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ArtefactError(f"{directory.where(card.weights)} is damaged: {error}") from error
    # A compact bundle has weights of 16 bits; adapters are merged in float32.
    return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
