"""An expert as a file of weights, under the names by which spandrel knows its kind."""

import dataclasses
import json

import safetensors.torch
from torch import nn

from expertree.errors import ExportError
from expertree.restorer.bundle import Bundle
from expertree.restorer.exports.checking import check_images


def to_weights(bundle: Bundle, node: int, network: nn.Module) -> bytes:
    """Return an expert as safetensors: a whole network under the names of published weights.

    The file's metadata say which expert of which bundle it is.
    """
    metadata = {
        "format": "pt",
        "bundle": bundle.manifest.digest,
        "expert": str(node),
        "network": json.dumps(dataclasses.asdict(bundle.backbone(node))),
    }
    kept = {key: tensor.contiguous().clone() for key, tensor in network.state_dict().items()}
    return safetensors.torch.save(kept, metadata=metadata)


def check_spandrel(data: bytes, network: nn.Module) -> str:
    """Load weights by spandrel, compare its images with the expert's, and return what it calls it.

    Raises:
        ExportError: If spandrel does not know the network, or makes other images of it.
    """
    from spandrel import ModelLoader, UnsupportedModelError  # noqa: PLC0415 - seconds to load

    try:
        loaded = ModelLoader(device="cpu").load_from_state_dict(safetensors.torch.load(data))
    except UnsupportedModelError as error:
        raise ExportError(
            "spandrel does not know this kind of network; --to safetensors writes its weights, "
            "--to onnx what computes without it"
        ) from error
    model = loaded.model.eval()
    multiple_px = int(str(network.multiple_px))
    check_images("spandrel", model, network, multiple_px=multiple_px)
    return str(loaded.architecture.name)
