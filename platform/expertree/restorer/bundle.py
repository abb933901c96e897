"""The bundle: one directory with all that restoring needs, JSON and safetensors only.

    manifest.json            format, tree, experts, and the hash of every other file
    extractor/  tree/  router/
    experts/000/ ...         one folder an expert, named by its node

The same parts give the same bytes. The manifest is written last, so half a bundle is none.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import cast

import safetensors
import safetensors.torch
import torch
from torch import nn

from expertree.config import load, to_dict
from expertree.embedding import Extractor, load_extractor, save_extractor
from expertree.errors import ArtefactError, ConfigError
from expertree.experts import load_expert
from expertree.experts.backbones import build_backbone
from expertree.experts.weights import CARD, WEIGHTS, backbone_of
from expertree.hierarchy import Tree, load_tree, save_tree
from expertree.routing import (
    Guide,
    Router,
    RouterShape,
    load_guide,
    load_router,
    save_guide,
    save_router,
)
from expertree.storage import Storage

FORMAT = 3
"""Of the bundle; a reader refuses any other."""

MANIFEST = "manifest.json"

PART_FILES = (
    "extractor/extractor.json",
    "extractor/extractor.safetensors",
    "router/guide.json",
    "router/router.json",
    "router/router.safetensors",
    "tree/tree.json",
    "tree/tree.safetensors",
)

EXPERT_FILES = (CARD, WEIGHTS)

_SUFFIXES = (".json", ".safetensors")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """What a file must be."""

    sha256: str
    num_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertEntry:
    """One expert, for whoever plans without opening it.

    Attributes:
        node: The tree's node that it is named by.
        levels: Levels on which it serves a node.
        num_samples: Samples of its group.
        backbone: Its kind of network; `expert.json` has the sizes.
        num_parameters: Scalars in its network.
        multiple_px: Multiple of the sides on which the network works; tiles start on it.
    """

    node: int
    levels: tuple[int, ...]
    num_samples: int
    backbone: str
    num_parameters: int
    multiple_px: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What `manifest.json` holds.

    Attributes:
        format: `FORMAT`.
        groups: Groups on each level of the tree.
        embed_dim: Length of an embedding.
        experts: By node.
        files: Every other file of the bundle, by name.
    """

    format: int
    groups: tuple[int, ...]
    embed_dim: int
    experts: tuple[ExpertEntry, ...]
    files: dict[str, FileEntry]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """An opened bundle. All files have been checked; experts are read when asked for.

    Attributes:
        directory: Where it lies.
        manifest: Its manifest.
        extractor: In evaluation mode, on the CPU.
        tree: The tree.
        router: In evaluation mode, on the CPU.
        guide: What the leaves were trained on, by name.
    """

    directory: Storage
    manifest: Manifest
    extractor: Extractor
    tree: Tree
    router: Router
    guide: Guide

    def entry(self, node: int) -> ExpertEntry:
        """What the manifest says of one expert.

        Raises:
            ValueError: If the tree has no such expert.
        """
        self.tree.levels_of_expert(node)
        return next(entry for entry in self.manifest.experts if entry.node == node)

    def load_expert(self, node: int) -> nn.Module:
        """Read one expert, in evaluation mode, on the CPU.

        Raises:
            ArtefactError: If its files have changed since the bundle was opened.
            ValueError: If the tree has no such expert.
        """
        folder = _expert_folder(self.entry(node).node)
        for name in EXPERT_FILES:
            _check_file(self.directory, f"{folder}/{name}", self.manifest)
        return load_expert(self.directory.sub(folder)).eval()


def write_bundle(
    directory: Storage,
    *,
    extractor: Storage,
    tree: Storage,
    router: Storage,
    experts: Mapping[int, Storage],
) -> Manifest:
    """Assemble a bundle from finished parts, which are checked against each other.

    Args:
        directory: Where the bundle goes. Parts of an older bundle there are replaced.
        extractor: Result with a trained extractor.
        tree: Result with the tree.
        router: Result with the trained routers and the guide.
        experts: Result of each expert, by node.

    Raises:
        ArtefactError: If a part is damaged, or the parts do not belong together.
    """
    if directory.exists(MANIFEST):
        directory.delete(MANIFEST)
    for part in ("extractor", "tree", "router", "experts"):
        directory.sub(part).delete()
    loaded = load_tree(tree)
    loaded.check_experts(experts)
    save_tree(loaded, directory.sub("tree"))
    save_extractor(load_extractor(extractor), directory.sub("extractor"), captions=False)
    save_router(load_router(router), directory.sub("router"))
    save_guide(load_guide(router), directory.sub("router"))
    entries = tuple(
        _pack_expert(directory, loaded, node, experts[node]) for node in loaded.experts()
    )
    manifest = Manifest(
        format=FORMAT,
        groups=loaded.groups,
        embed_dim=loaded.embed_dim,
        experts=entries,
        files={name: describe(directory.read_bytes(name)) for name in _file_names(entries)},
    )
    _load_parts(directory, manifest)
    directory.write_json(MANIFEST, to_dict(manifest))
    return manifest


def open_bundle(directory: Storage) -> Bundle:
    """Open a bundle and check all of it: every file's hash, and that the parts fit.

    Raises:
        ArtefactError: If anything is missing, changed, of another format or of another shape; names
            the file.
    """
    manifest = _read_manifest(directory)
    for name in sorted({*manifest.files, *_file_names(manifest.experts)}):
        _check_file(directory, name, manifest)
    return _load_parts(directory, manifest)


def describe(data: bytes) -> FileEntry:
    """The entry of a file in the manifest."""
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), num_bytes=len(data))


def _expert_folder(node: int) -> str:
    return f"experts/{node:03d}"


def _file_names(experts: Iterable[ExpertEntry]) -> list[str]:
    """The files that a bundle with these experts has, its manifest apart."""
    folders = [_expert_folder(entry.node) for entry in experts]
    return sorted(
        [*PART_FILES, *(f"{folder}/{name}" for folder in folders for name in EXPERT_FILES)]
    )


def _pack_expert(directory: Storage, tree: Tree, node: int, result: Storage) -> ExpertEntry:
    network = load_expert(result)
    for name in EXPERT_FILES:
        directory.write_bytes(f"{_expert_folder(node)}/{name}", result.read_bytes(name))
    return ExpertEntry(
        node=node,
        levels=tree.levels_of_expert(node),
        num_samples=tree.nodes[node].num_samples,
        backbone=backbone_of(result).name,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiple_px=cast("int", network.multiple_px),
    )


def _read_manifest(directory: Storage) -> Manifest:
    where = directory.path(MANIFEST)
    if not directory.exists(MANIFEST):
        raise ArtefactError(f"{directory.path()} is not a bundle: it has no {MANIFEST}")
    data = directory.read_json(MANIFEST)
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise ArtefactError(f"{where} has format {found!r}, this program reads {FORMAT}")
    try:
        manifest = load(Manifest, data)
    except ConfigError as error:
        raise ArtefactError(f"{where} is damaged: {error}") from error
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.suffix not in _SUFFIXES:
            raise ArtefactError(
                f"{where} lists '{name}'; a bundle holds JSON and safetensors below its directory "
                "and nothing else"
            )
    return manifest


def _check_file(directory: Storage, name: str, manifest: Manifest) -> None:
    where = directory.path(name)
    if name not in manifest.files:
        raise ArtefactError(f"{where} is not in the bundle's {MANIFEST}")
    if not directory.exists(name):
        raise ArtefactError(f"{where} is missing from the bundle")
    expected, found = manifest.files[name], describe(directory.read_bytes(name))
    if found != expected:
        raise ArtefactError(
            f"{where} has sha256 {found.sha256[:12]} and {found.num_bytes} bytes, but the "
            f"{MANIFEST} says {expected.sha256[:12]} and {expected.num_bytes}; copy the bundle "
            "again"
        )


def _load_parts(directory: Storage, manifest: Manifest) -> Bundle:
    tree = load_tree(directory.sub("tree"))
    tree.check_experts(entry.node for entry in manifest.experts)
    bundle = Bundle(
        directory=directory,
        manifest=manifest,
        extractor=load_extractor(directory.sub("extractor")).eval(),
        tree=tree,
        router=load_router(directory.sub("router")),
        guide=load_guide(directory.sub("router")),
    )
    _check_fit(bundle)
    for entry in manifest.experts:
        _check_expert(directory, entry)
    return bundle


def _check_fit(bundle: Bundle) -> None:
    tree, manifest = bundle.tree, bundle.manifest
    wanted = RouterShape(
        embed_dim=tree.embed_dim,
        num_leaves=tree.num_leaves,
        num_levels=tree.num_levels,
        num_costs=len(tree.nodes) if bundle.router.shape.num_costs else 0,
    )
    promises = {
        MANIFEST: (manifest.groups, manifest.embed_dim) == (tree.groups, tree.embed_dim),
        "router/": bundle.router.shape == wanted,
        "router/guide.json": len(bundle.guide.shares) == tree.num_leaves,
        "extractor/": bundle.extractor.embed_dim == tree.embed_dim,
    }
    for name, kept in promises.items():
        if not kept:
            raise ArtefactError(
                f"{bundle.directory.path(name)} does not belong to the bundle's tree, which has "
                f"groups {list(tree.groups)} of embeddings of length {tree.embed_dim}"
            )


def _check_expert(directory: Storage, entry: ExpertEntry) -> None:
    """Compare the shapes on disk with the network's, without making the network."""
    folder = directory.sub(_expert_folder(entry.node))
    with torch.device("meta"):
        network = build_backbone(backbone_of(folder))
    wanted = {name: list(value.shape) for name, value in network.state_dict().items()}
    where = folder.path(WEIGHTS)
    try:
        tensors = safetensors.torch.load(folder.read_bytes(WEIGHTS))
    except safetensors.SafetensorError as error:
        raise ArtefactError(f"{where} is damaged: {error}") from error
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in wanted.keys() | found.keys():
        if wanted.get(name) != found.get(name):
            raise ArtefactError(
                f"{where} has '{name}' of shape {found.get(name)}, but the network in {CARD} has "
                f"{wanted.get(name)}"
            )
