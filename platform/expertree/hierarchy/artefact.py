"""Write a tree to `tree.json` and `tree.safetensors`, and read and check it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.numpy

from expertree.config import load, to_dict
from expertree.errors import ArtefactError, ConfigError
from expertree.hierarchy.dendrogram import Dendrogram
from expertree.hierarchy.tree import Metric, Node, Tree
from expertree.storage import Storage

VERSION = 2
"""Format version of the artefact, as written."""

READABLE = (1, 2)
"""Format versions that can be read; others are refused. Version 1 had no splits."""

_HEADER, _ARRAYS = "tree.json", "tree.safetensors"
_PLAIN, _SPLITS = ("centroids", "mean", "std"), "split_centroids"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    """The content of `tree.json`; the arrays are in `tree.safetensors`."""

    version: int
    groups: tuple[int, ...]
    metric: Metric
    extractor: str
    nodes: tuple[Node, ...]
    splits: tuple[tuple[int, int], ...] = ()


def save_tree(tree: Tree, directory: Storage) -> None:
    """Write `tree.json` and `tree.safetensors`; the same tree gives the same bytes."""
    header = _Header(
        version=VERSION,
        groups=tree.groups,
        metric=tree.metric,
        extractor=tree.extractor,
        nodes=tree.nodes,
        splits=() if tree.dendrogram is None else tree.dendrogram.halves,
    )
    arrays = {name: getattr(tree, name) for name in _PLAIN}
    if tree.dendrogram is not None:
        arrays[_SPLITS] = tree.dendrogram.centroids
    directory.write_bytes(_ARRAYS, safetensors.numpy.save(arrays))
    directory.write_json(_HEADER, to_dict(header))


def load_tree(directory: Storage) -> Tree:
    """Read a tree and check all of it.

    Raises:
        ArtefactError: If it is missing, damaged, of another version, or not one whole tree.
    """
    where = directory.path(_HEADER)
    header = _read_header(directory.read_json(_HEADER), where)
    try:
        arrays = safetensors.numpy.load(directory.read_bytes(_ARRAYS))
    except safetensors.SafetensorError as error:
        raise ArtefactError(f"{directory.path(_ARRAYS)} is damaged: {error}") from error
    expected = {*_PLAIN, _SPLITS} if header.splits else set(_PLAIN)
    if set(arrays) != expected:
        raise ArtefactError(
            f"{directory.path(_ARRAYS)} holds {sorted(arrays)}, expected {sorted(expected)}"
        )
    try:
        return Tree(
            groups=header.groups,
            metric=header.metric,
            extractor=header.extractor,
            nodes=header.nodes,
            dendrogram=_dendrogram(header, arrays),
            **{name: arrays[name] for name in _PLAIN},
        )
    except ValueError as error:
        raise ArtefactError(f"{where} is not a usable tree: {error}") from error


def _dendrogram(header: _Header, arrays: Mapping[str, Any]) -> Dendrogram | None:
    if not header.splits:
        return None
    return Dendrogram(halves=header.splits, centroids=arrays[_SPLITS])


def _read_header(data: Any, where: str) -> _Header:  # noqa: ANN401 - JSON has no narrower type
    version = data.get("version") if isinstance(data, dict) else None
    if version not in READABLE:
        raise ArtefactError(
            f"{where} has format version {version!r}, this program reads {list(READABLE)}; build "
            "the tree again"
        )
    try:
        return load(_Header, data)
    except ConfigError as error:
        raise ArtefactError(f"{where} is damaged: {error}") from error
