"""The forms in which one expert is written, by name."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import nn

from expertree import __version__
from expertree.errors import ConfigError
from expertree.experts.backbones.nafnet_layers import set_window
from expertree.experts.portable import Portable, open_torchscript, to_onnx, to_torchscript
from expertree.restorer.bundle import Bundle
from expertree.restorer.exports.checking import check_images, restoring
from expertree.restorer.exports.weights import check_spandrel, to_weights
from expertree.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """An expert in another form.

    Attributes:
        files: Content of each file, by its name; the first is the one to open.
        note: What it is, and how far it is from torch, in words.
    """

    files: Mapping[str, bytes]
    note: str


Form: TypeAlias = Callable[[Bundle, int, nn.Module], Exported]
"""From a bundle, an expert's node and its network to files; checked by the form's own program."""


def export_expert(bundle: Bundle, node: int, target: Storage, form: str) -> tuple[str, str]:
    """Write one expert in a form, once what was written has been compared with torch.

    An expert that is an adapter is merged into the root's network first.

    Args:
        bundle: An opened bundle.
        node: The expert, by its node.
        target: The folder; files of the same names are replaced.
        form: A name in `FORMS`.

    Returns:
        The name of the file to open, and what it is in words.

    Raises:
        ArtefactError: If the expert's files have changed since the bundle was opened.
        ConfigError: If a package is missing that the form needs.
        ExportError: If the network has no such form, or does not do the same in it.
        StorageError: If the folder cannot be written.
        ValueError: If the tree has no such expert.
    """
    exported = FORMS[form](bundle, node, bundle.load_expert(node))
    for name, data in exported.files.items():
        target.write_bytes(name, data)
    return next(iter(exported.files)), exported.note


def _name(node: int, suffix: str) -> str:
    return f"expert-{node:03d}.{suffix}"


def _safetensors(bundle: Bundle, node: int, network: nn.Module) -> Exported:
    data = to_weights(bundle, node, network)
    return Exported(files={_name(node, "safetensors"): data}, note=bundle.entry(node).backbone)


def _spandrel(bundle: Bundle, node: int, network: nn.Module) -> Exported:
    data = to_weights(bundle, node, network)
    set_window(network, None)  # of which weights say nothing
    return Exported(
        files={_name(node, "safetensors"): data},
        note=f"spandrel opens it as {check_spandrel(data, network)}",
    )


def _graph(bundle: Bundle, node: int, network: nn.Module) -> tuple[bytes, float]:
    """Return an expert as ONNX, and how far ONNX Runtime's images are from torch's."""
    try:
        import onnx  # noqa: F401, PLC0415 - the exporter of torch needs this extra
    except ImportError as error:
        raise ConfigError(
            "this form needs the package onnx, which is not installed: pip install "
            "'expertree[onnx]'"
        ) from error
    data = to_onnx(Portable(bundle.backbone(node), network))
    return data, check_images("ONNX Runtime", restoring(data), network)


def _onnx(bundle: Bundle, node: int, network: nn.Module) -> Exported:
    data, difference = _graph(bundle, node, network)
    return Exported(
        files={_name(node, "onnx"): data},
        note=f"ONNX Runtime is within {difference:.1g} of torch",
    )


def _torchscript(bundle: Bundle, node: int, network: nn.Module) -> Exported:
    data = to_torchscript(Portable(bundle.backbone(node), network))
    difference = check_images("TorchScript", open_torchscript(data), network)
    return Exported(
        files={_name(node, "pt"): data}, note=f"torch.jit is within {difference:.1g} of torch"
    )


def _darktable(bundle: Bundle, node: int, network: nn.Module) -> Exported:
    """Return the folder of a model of darktable 5.6, named by its id, as darktable wants it."""
    data, difference = _graph(bundle, node, network)
    digest = bundle.manifest.digest[:8]
    entry = bundle.entry(node)
    described = {
        "id": f"denoise-expertree-{digest}-{node:03d}",
        "name": f"expertree {digest} expert {node}",
        "description": f"{told_of(bundle, node)} ({entry.backbone}, of expertree bundle {digest})",
        "version": __version__,
        "task": "denoise",
        "backend": "onnx",
        "num_inputs": 1,
        "arch": entry.backbone,
    }
    config = (json.dumps(described, indent=2) + "\n").encode()
    return Exported(
        files={f"{described['id']}/config.json": config, f"{described['id']}/model.onnx": data},
        note=f"ONNX Runtime is within {difference:.1g} of torch",
    )


def told_of(bundle: Bundle, node: int) -> str:
    """Return in words what an expert is for, by what its leaves were trained on."""
    names, leaves = bundle.guide.names, bundle.tree.nodes[node].leaves
    if len(leaves) == bundle.tree.num_leaves:
        return "restores photographs that are spoiled in any way"
    shares = [
        sum(bundle.guide.shares[leaf][place] for leaf in leaves) / len(leaves)
        for place in range(len(names))
    ]
    most = sorted(zip(shares, names, strict=True), reverse=True)[:2]
    return "restores photographs with " + " and ".join(name for share, name in most if share > 0)


FORMS: Mapping[str, Form] = {
    "safetensors": _safetensors,
    "spandrel": _spandrel,
    "onnx": _onnx,
    "darktable": _darktable,
    "torchscript": _torchscript,
}
"""Forms of one expert, by the names that `expertree export --to` takes."""
