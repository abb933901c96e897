"""Write a bundle again with weights of 16 bits, which halves its size."""

import dataclasses
import json
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from expertree.config import to_dict
from expertree.embedding import is_extractor_hash, stored_extractor_hash
from expertree.errors import OptionError
from expertree.hierarchy import ROOT
from expertree.restorer.bundle import Bundle, open_bundle
from expertree.restorer.manifest import MANIFEST, Manifest, check_file, describe
from expertree.storage import Storage

_EXTRACTOR, _TREE = "extractor/extractor", "tree/tree"


def write_compact(bundle: Bundle, directory: Storage) -> Manifest:
    """Write a bundle whose matrices and kernels are float16; what is small stays as it is.

    Networks compute in float32 all the same, from rounded weights. Everything that names a file by
    its hash (cards of experts and adapters, the extractor's header, the tree) names the new one.

    Args:
        bundle: An opened bundle.
        directory: Directory for the new bundle. An older one there is replaced, once all of this
            one has been read.

    Returns:
        The manifest of the new bundle, which has been opened once.

    Raises:
        ArtefactError: If a file has changed since the bundle was opened.
        OptionError: If the directory is the bundle's own.
        StorageError: If a file cannot be read, or the directory cannot be written.
    """
    source, names = bundle.directory, bundle.manifest.files
    if source.is_same_place(directory):
        raise OptionError(
            f"{directory.where()} is the bundle itself, whose weights would be lost; give another "
            "directory"
        )
    data = {name: _read(bundle, name) for name in names}
    weights = {
        name: _round(content)
        for name, content in data.items()
        if name.endswith(".safetensors") and not name.startswith(_TREE)
    }
    headers = {
        name: json.loads(content) for name, content in data.items() if name.endswith(".json")
    }
    headers[f"{_EXTRACTOR}.json"]["sha256"] = describe(weights[f"{_EXTRACTOR}.safetensors"]).sha256
    _rename_experts(bundle.manifest, headers, weights)
    if directory.exists(MANIFEST):
        directory.delete(MANIFEST)
    for name, content in (data | weights).items():
        if name not in headers:
            directory.write_bytes(name, content)
    for name, header in headers.items():
        directory.write_json(name, header)
    if is_extractor_hash(bundle.tree.extractor):
        named = headers[f"{_TREE}.json"]
        named["extractor"] = stored_extractor_hash(directory.sub("extractor"))
        directory.write_json(f"{_TREE}.json", named)
    files = {name: describe(directory.read_bytes(name)) for name in names}
    manifest = dataclasses.replace(bundle.manifest, files=files)
    directory.write_json(MANIFEST, to_dict(manifest))
    return open_bundle(directory).manifest


def _read(bundle: Bundle, name: str) -> bytes:
    """Read a file that is what the manifest says."""
    check_file(bundle.directory, name, bundle.manifest)
    return bundle.directory.read_bytes(name)


def _rename_experts(manifest: Manifest, headers: dict[str, Any], weights: dict[str, bytes]) -> None:
    """Write the new weights' hashes into the experts' cards, and the root's into adapters'."""
    root = next(entry for entry in manifest.experts if entry.node == ROOT)
    for entry in manifest.experts:
        card, own = entry.files
        headers[card]["sha256"] = describe(weights[own]).sha256
        if headers[card].get("root") is not None:
            headers[card]["root"]["sha256"] = describe(weights[root.files[1]]).sha256


def _round(data: bytes) -> bytes:
    tensors = safetensors.torch.load(data)
    return safetensors.torch.save({name: _half(tensor) for name, tensor in tensors.items()})


def _half(tensor: Tensor) -> Tensor:
    """Return a matrix or kernel as float16, unless it has values that float16 does not reach."""
    if tensor.dtype != torch.float32 or tensor.ndim < 2:
        return tensor
    rounded = tensor.half()
    return rounded if bool(rounded.isfinite().all()) else tensor
