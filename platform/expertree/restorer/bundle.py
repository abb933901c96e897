"""The bundle: one directory with all that restoring needs, JSON and safetensors only.

    manifest.json            format, tree, experts, and the hash of every other file
    extractor/  tree/  router/
    experts/000/ ...         one folder an expert, named by its node: a whole network,
                             or an adapter on the root's, which is stored once

The same parts give the same bytes. The manifest is written last, so half a bundle cannot be
opened.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import cast

import torch
from torch import nn

from expertree.config import to_dict
from expertree.embedding import (
    Extractor,
    is_extractor_hash,
    load_extractor,
    save_extractor,
    stored_extractor_hash,
)
from expertree.errors import ArtefactError, OptionError
from expertree.experts import BackboneConfig, load_expert
from expertree.experts.adapter import Adapter
from expertree.experts.backbones import has_windows
from expertree.experts.backbones.nafnet_layers import set_window
from expertree.experts.conditions import Source
from expertree.experts.weights import (
    CARD,
    check_root,
    check_shapes,
    read_adapter,
    read_card,
)
from expertree.hierarchy import ROOT, Tree, load_tree, save_tree
from expertree.restorer.manifest import (
    FORMAT,
    MANIFEST,
    PART_FILES,
    ExpertEntry,
    Manifest,
    check_file,
    describe,
    read_manifest,
)
from expertree.routing import (
    Guide,
    Router,
    Wish,
    choose,
    load_guide,
    load_router,
    save_guide,
    save_router,
)
from expertree.routing.instructions import load_reader, read_instruction
from expertree.routing.measures import NAMES as MEASURES
from expertree.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """What decides which wishes a bundle can meet, without its large networks.

    Attributes:
        manifest: Its manifest.
        tree: The tree.
        router: The routers, in evaluation mode, on the CPU.
        guide: Guide to what the leaves were trained on, by name.
        sentence_encoder: Encoder of the sentences that its networks take; None if they take none.
    """

    manifest: Manifest
    tree: Tree
    router: Router
    guide: Guide
    sentence_encoder: str | None

    def check_wish(self, wish: Wish) -> Wish:
        """Return a wish with its words understood; raise unless an image could be routed so.

        Raises:
            ConfigError: If the encoder of sentences cannot be loaded.
            ValueError: If the level, expert, confidence or a name of the instruction does not
                exist.
        """
        with torch.inference_mode():
            output = self.router(torch.zeros(1, self.router.shape.num_read))
        wish = self.understand(wish)
        choose(output, self.tree, self.guide, wish)
        return wish

    def understand(self, wish: Wish) -> Wish:
        """Return a wish with the names that its words mean, if it names nothing yet.

        The networks' own encoder reads them. Words that mean nothing to it are still told to the
        networks, and name nothing to the routers. Words that are names alone become the names.

        Raises:
            ConfigError: If that encoder cannot be loaded.
            OptionError: If the networks take no sentences, and there is more than names.
        """
        if not wish.words or wish.instruction:
            return wish
        read_text = None if self.sentence_encoder is None else load_reader(self.sentence_encoder)
        try:
            names, words = read_instruction(wish.words, self.guide.names, read_text)
        except OptionError:
            if read_text is None:
                raise
            return wish
        return dataclasses.replace(wish, instruction=names, words=words)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """An opened bundle. All files have been checked; experts are read when asked for.

    Attributes:
        directory: Directory of the bundle.
        manifest: Its manifest.
        extractor: The extractor, in evaluation mode, on the CPU.
        tree: The tree.
        router: The routers, in evaluation mode, on the CPU.
        guide: Guide to what the leaves were trained on, by name.
        backbones: Sizes of each expert's network, by node.
    """

    directory: Storage
    manifest: Manifest
    extractor: Extractor
    tree: Tree
    router: Router
    guide: Guide
    backbones: Mapping[int, BackboneConfig]

    @property
    def outline(self) -> Outline:
        """What decides which wishes it can meet."""
        return Outline(
            manifest=self.manifest,
            tree=self.tree,
            router=self.router,
            guide=self.guide,
            sentence_encoder=_encoder_of(self.backbones.values()),
        )

    @property
    def seen(self) -> frozenset[Source]:
        """What its networks are told that the extractor finds in whole images."""
        return frozenset(source for own in self.backbones.values() for source in own.seen)

    def entry(self, node: int) -> ExpertEntry:
        """Return the manifest's entry for one expert.

        Raises:
            ValueError: If the tree has no such expert.
        """
        self.tree.levels_of_expert(node)
        return next(entry for entry in self.manifest.experts if entry.node == node)

    def backbone(self, node: int) -> BackboneConfig:
        """Return the sizes of one expert's network.

        Raises:
            ValueError: If the tree has no such expert.
        """
        return self.backbones[self.entry(node).node]

    def load_expert(self, node: int) -> nn.Module:
        """Read one expert as a network of its own, in evaluation mode, on the CPU.

        Raises:
            ArtefactError: If its files have changed since the bundle was opened.
            ValueError: If the tree has no such expert.
        """
        directory = self._checked(node)
        root = self._checked(ROOT) if self.entry(node).adapter is not None else None
        network = load_expert(directory, root=root)
        set_window(network, self.entry(node).window_px)
        return network

    def load_adapter(self, node: int) -> Adapter:
        """Read the adapter of one expert on the root's network.

        Raises:
            ArtefactError: If its files have changed since the bundle was opened, or it is a whole
                network.
            ValueError: If the tree has no such expert.
        """
        return read_adapter(self._checked(node))

    def _checked(self, node: int) -> Storage:
        """Return an expert's folder, once its files have been checked against the manifest."""
        entry = self.entry(node)
        for name in entry.files:
            check_file(self.directory, name, self.manifest)
        return self.directory.sub(entry.folder)


def write_bundle(
    directory: Storage,
    *,
    extractor: Storage,
    tree: Storage,
    router: Storage,
    experts: Mapping[int, Storage],
    windows: Mapping[int, int | None] | None = None,
) -> Manifest:
    """Assemble a bundle from finished parts, which are checked against each other.

    Args:
        directory: Directory for the bundle. Parts of an older bundle there are replaced.
        extractor: Result with a trained extractor.
        tree: Result with the tree.
        router: Result with the trained routers and the guide.
        experts: Result of each expert, by node.
        windows: Side in pixels of the windows of some experts, by node; none by default.

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
    sides = windows or {}
    entries = tuple(
        dataclasses.replace(
            _pack_expert(directory, loaded, node, experts, extractor.name),
            window_px=sides.get(node),
        )
        for node in loaded.experts()
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
    manifest = read_manifest(directory)
    for name in sorted({*manifest.files, *_file_names(manifest.experts)}):
        check_file(directory, name, manifest)
    return _load_parts(directory, manifest)


def read_outline(directory: Storage) -> Outline:
    """Read what decides which wishes a bundle can meet; its large files stay closed and unchecked.

    Raises:
        ArtefactError: If the manifest, the tree, the routers or an expert's card are missing,
            changed or of another format; names the file.
    """
    manifest = read_manifest(directory)
    kinds = {entry.backbone: entry for entry in reversed(manifest.experts)}.values()
    parts = [name for name in PART_FILES if name.startswith(("tree/", "router/"))]
    for name in (*parts, *(entry.files[0] for entry in kinds)):
        check_file(directory, name, manifest)
    return Outline(
        manifest=manifest,
        tree=load_tree(directory.sub("tree")),
        router=load_router(directory.sub("router")),
        guide=load_guide(directory.sub("router")),
        sentence_encoder=_encoder_of(
            read_card(directory.sub(entry.folder)).backbone for entry in kinds
        ),
    )


def _encoder_of(backbones: Iterable[BackboneConfig]) -> str | None:
    """Return the encoder of the sentences that networks take; None if all take none."""
    return next(filter(None, (own.sentence_encoder for own in backbones)), None)


def _file_names(experts: Iterable[ExpertEntry]) -> list[str]:
    """Return the files of a bundle with these experts, without its manifest."""
    return sorted([*PART_FILES, *(name for entry in experts for name in entry.files)])


def _pack_expert(
    directory: Storage, tree: Tree, node: int, experts: Mapping[int, Storage], extractor: str
) -> ExpertEntry:
    result = experts[node]
    network, card = load_expert(result, root=experts[ROOT]), read_card(result)
    if card.extractor not in (None, extractor):
        raise ArtefactError(
            f"{result.path(CARD)} says that the extractor {card.extractor} told the network of its "
            f"samples; the bundle's is {extractor}"
        )
    entry = ExpertEntry(
        node=node,
        levels=tree.levels_of_expert(node),
        num_samples=tree.nodes[node].num_samples,
        backbone=card.backbone.name,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiple_px=cast("int", network.multiple_px),
        adapter=card.adapter,
    )
    for name in entry.files:
        directory.write_bytes(name, result.read_bytes(PurePosixPath(name).name))
    return entry


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
        backbones={
            entry.node: read_card(directory.sub(entry.folder)).backbone
            for entry in manifest.experts
        },
    )
    _check_fit(bundle)
    _check_experts(directory, manifest)
    return bundle


def _check_fit(bundle: Bundle) -> None:
    tree, manifest = bundle.tree, bundle.manifest
    own = bundle.router.shape
    wanted = dataclasses.replace(
        own,
        embed_dim=tree.embed_dim,
        num_leaves=tree.num_leaves,
        num_levels=tree.num_levels,
        num_costs=len(tree.nodes) if own.num_costs else 0,
        num_measures=len(MEASURES) if own.num_measures else 0,
    )
    promises = {
        MANIFEST: (manifest.groups, manifest.embed_dim) == (tree.groups, tree.embed_dim),
        "router/": own == wanted,
        "router/guide.json": len(bundle.guide.shares) == tree.num_leaves,
        "extractor/": bundle.extractor.embed_dim == tree.embed_dim,
    }
    for name, kept in promises.items():
        if not kept:
            raise ArtefactError(
                f"{bundle.directory.path(name)} does not belong to the bundle's tree, which has "
                f"groups {list(tree.groups)} of embeddings of length {tree.embed_dim}"
            )
    found = stored_extractor_hash(bundle.directory.sub("extractor"))
    if is_extractor_hash(tree.extractor) and tree.extractor != found:
        raise ArtefactError(
            f"{bundle.directory.path('extractor/')} is not what the bundle's tree was built with: "
            f"it is {found}, the tree's is {tree.extractor}; take both from one build"
        )


def _check_experts(directory: Storage, manifest: Manifest) -> None:
    """Check that experts are what the manifest says and fit each other, without making them."""
    kinds = {entry.adapter for entry in manifest.experts if entry.adapter is not None}
    if len(kinds) > 1:
        raise ArtefactError(
            f"{directory.path(MANIFEST)} has adapters of {len(kinds)} kinds; all must be of one"
        )
    root = next(entry.folder for entry in manifest.experts if entry.node == ROOT)
    for entry in manifest.experts:
        folder = directory.sub(entry.folder)
        card = read_card(folder)
        if entry.window_px is not None and not has_windows(card.backbone):
            raise ArtefactError(f"{directory.path(MANIFEST)} gives windows to another network")
        if card.adapter != entry.adapter:
            raise ArtefactError(
                f"{folder.path(CARD)} does not belong to the bundle: its {MANIFEST} says "
                f"{entry.adapter or 'a whole network'}"
            )
        check_shapes(folder)
        if entry.adapter is not None:
            check_root(folder, directory.sub(root))
