"""An expert on disk: its weights under the published names, and what they are the weights of."""

import hashlib
from typing import Any, cast

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from expertree import config
from expertree.errors import ArtefactError, ConfigError
from expertree.experts.backbones import (
    BackboneConfig,
    backbone_record,
    build_backbone,
    describe_backbone,
    resolve_backbone,
)
from expertree.experts.recipe import ExpertJob
from expertree.storage import Storage

WEIGHTS = "expert.safetensors"
CARD = "expert.json"

_VERSION = 1


def save_expert(directory: Storage, weights: dict[str, Tensor], job: ExpertJob) -> str:
    """Write an expert. The same weights give the same bytes, whenever and wherever.

    Args:
        directory: Where to.
        weights: A state dict.
        job: What was trained.

    Returns:
        The SHA-256 of the weights' file.

    Raises:
        StorageError: If it cannot be written.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    data = safetensors.torch.save(plain)
    sha256 = hashlib.sha256(data).hexdigest()
    directory.write_bytes(WEIGHTS, data)
    card = {
        "version": _VERSION,
        "key": job.key,
        "backbone": backbone_record(job.backbone),
        "num_samples": job.num_samples,
        "num_parameters": describe_backbone(job.backbone).num_parameters,
        "sha256": sha256,
    }
    directory.write_json(CARD, card)
    return sha256


def sha256_of(directory: Storage) -> str:
    """The hash of a stored expert's weights, as its card says it.

    Raises:
        ArtefactError: If its card cannot be read.
    """
    return cast("str", _card(directory)["sha256"])


def load_expert(directory: Storage) -> nn.Module:
    """Open an expert.

    Args:
        directory: Where `save_expert` wrote it.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        ArtefactError: If a file is missing or damaged, or the weights do not fit the backbone.
    """
    network = build_backbone(backbone_of(directory))
    load_weights(network, directory)
    return network.eval()


def backbone_of(directory: Storage) -> BackboneConfig:
    """The network of a stored expert, every size given.

    Raises:
        ArtefactError: If its card cannot be read.
    """
    card = _card(directory)
    try:
        return resolve_backbone(config.load(BackboneConfig, card["backbone"]))
    except (ConfigError, ValueError) as error:
        raise ArtefactError(f"{directory.path(CARD)} names no network: {error}") from error


def load_weights(network: nn.Module, directory: Storage) -> None:
    """Give a network the weights of a stored expert.

    Raises:
        ArtefactError: If a file is missing or damaged, or the weights have other names or shapes.
    """
    card, data = _card(directory), directory.read_bytes(WEIGHTS)
    path = directory.path(WEIGHTS)
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise ArtefactError(f"{path} is damaged: its hash is not the one in {CARD}")
    try:
        network.load_state_dict(safetensors.torch.load(data))
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ArtefactError(f"{path} does not fit the network: {reason}") from error


def _card(directory: Storage) -> dict[str, Any]:
    card = directory.read_json(CARD)
    if not isinstance(card, dict) or card.get("version") != _VERSION:
        raise ArtefactError(f"{directory.path(CARD)} does not describe an expert of version 1")
    return cast("dict[str, Any]", card)
