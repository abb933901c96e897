"""Write experts of a bundle as files of weights that other tools read."""

import dataclasses
import json

import safetensors.torch

from expertree.experts.weights import read_card
from expertree.restorer.bundle import Bundle
from expertree.storage import Storage


def export_expert(bundle: Bundle, node: int, target: Storage) -> str:
    """Write one expert as `expert-NNN.safetensors`, a whole network under its published names.

    An expert that is an adapter is merged into the root's network first. The names are those of the
    published weights of its kind, so that spandrel, and what loads models through it, recognises
    NAFNet, Restormer and Retinexformer. The file's metadata say which expert of which bundle it is.

    Args:
        bundle: An opened bundle.
        node: The expert, by its node.
        target: The folder; a file of that name is replaced.

    Returns:
        The name of the file.

    Raises:
        ArtefactError: If the expert's files have changed since the bundle was opened.
        ValueError: If the tree has no such expert.
        StorageError: If the folder cannot be written.
    """
    weights = bundle.load_expert(node).state_dict()
    card = read_card(bundle.directory.sub(bundle.entry(node).folder))
    metadata = {
        "format": "pt",
        "bundle": bundle.manifest.digest,
        "expert": str(node),
        "network": json.dumps(dataclasses.asdict(card.backbone)),
    }
    name = f"expert-{node:03d}.safetensors"
    kept = {key: tensor.contiguous().clone() for key, tensor in weights.items()}
    target.write_bytes(name, safetensors.torch.save(kept, metadata=metadata))
    return name
