"""Study of how well trees of several shapes separate their groups (paper, tables B and K)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from expertree.config import load, to_dict
from expertree.errors import ArtefactError, ConfigError, GroupingError
from expertree.hierarchy import HierarchyConfig, build_tree, purity, silhouettes
from expertree.pipeline.stages import key_of, sibling
from expertree.pipeline.tables import read_embeddings, read_labels
from expertree.storage import Storage
from expertree.studies.tables import Cell, Rows, Table
from expertree.uris import with_keys_of

VERSION = 1
"""Raise it when the same embeddings would give other rows."""

PAPER_SHAPES = ((1, 2), (1, 4), (1, 8), (1, 16), (1, 4, 8), (1, 4, 8, 16))
PAPER: Mapping[str, Sequence[tuple[float, ...]]] = {
    "kmeans": (
        *((0.3103,), (0.4926,), (0.6605,), (0.5932,)),
        *((0.4926, 0.6686), (0.4926, 0.6686, 0.5525)),
    ),
    "spectral": (
        *((0.3824,), (0.4630,), (0.5895,), (0.2779,)),
        *((0.4630, 0.6668), (0.4630, 0.6668, 0.4889)),
    ),
}
"""Silhouettes by level for each of `PAPER_SHAPES` (paper 000, tables B and K)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SilhouetteConfig:
    """The embeddings to cut, and the methods and shapes of the trees."""

    embeddings: str | None = None
    """A finished build's output folder, or a directory of its store, `<store>/embed/<key>`."""

    methods: tuple[str, ...] = ("kmeans", "spectral", "bisecting", "adaptive")
    """Methods to compare; values of `hierarchy.method`."""

    shapes: tuple[tuple[int, ...], ...] = PAPER_SHAPES
    """Groups by level of each tree."""

    hierarchy: HierarchyConfig = HierarchyConfig()
    """Everything else about the cuts; its `groups` and `method` are not used."""

    def hierarchies(self, method: str) -> list[HierarchyConfig]:
        """Return the configuration of the tree of each shape.

        Raises:
            ConfigError: If the method or a shape does not exist.
        """
        plain = to_dict(self.hierarchy)
        return [
            load(HierarchyConfig, plain | {"method": method, "groups": list(shape)})
            for shape in self.shapes
        ]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Material:
    """Embeddings of training patches, and the degradation of each."""

    key: str
    vectors: Float32[np.ndarray, "patches dim"]
    labels: list[str]


def study_silhouettes(config: SilhouetteConfig, rows: Rows) -> tuple[Table, ...]:
    """Cut the training embeddings of a build to each shape by each method, and score the levels.

    Raises:
        ConfigError: If the embeddings are not given, or a method does not exist.
        ArtefactError: If the embeddings are not there.
    """
    if config.embeddings is None:
        raise ConfigError(
            "silhouette.embeddings is not set; give the output folder of a finished build"
        )
    wanted = {method: config.hierarchies(method) for method in config.methods}
    material = _read(embeddings_of(config.embeddings))
    return tuple(
        _table(method, hierarchies, material, rows) for method, hierarchies in wanted.items()
    )


def _table(
    method: str, hierarchies: Sequence[HierarchyConfig], material: _Material, rows: Rows
) -> Table:
    found = [_row(config, material, rows) for config in hierarchies]
    depth = max(len(config.groups) for config in hierarchies) - 1
    paper = dict(zip(PAPER_SHAPES, PAPER.get(method, ()), strict=False))
    lines = []
    for config, row in zip(hierarchies, found, strict=True):
        line: list[Cell] = [_shape(config.groups)]
        for level in range(depth):
            line.append(_at(row["silhouettes"], level))
            line += [_at(paper.get(config.groups, ()), level)] if paper else []
        lines.append((*line, _shape(row["groups"]), row["purity"]))
    head = (
        name for n in range(1, depth + 1) for name in (f"level {n}", "paper")[: 1 + bool(paper)]
    )
    return Table(
        title=f"Silhouette by level, {method}",
        columns=("groups", *head, "found", "purity of the leaves"),
        rows=tuple(lines),
        notes=tuple(f"{_shape(row['asked'])}: {row['error']}." for row in found if row["error"]),
    )


def _row(config: HierarchyConfig, material: _Material, rows: Rows) -> dict[str, Any]:
    def make() -> dict[str, Any]:
        row: dict[str, Any] = {"asked": list(config.groups), "error": None}
        try:
            tree, leaves = build_tree(material.vectors, config, extractor="")
        except GroupingError as error:
            return row | {"error": str(error), "groups": [], "silhouettes": [], "purity": None}
        return row | {
            "groups": list(tree.groups),
            "silhouettes": list(silhouettes(tree, material.vectors, leaves)[1:]),
            "purity": purity(tree, leaves, material.labels)[-1],
        }

    spec = {
        "study": "silhouette",
        "version": VERSION,
        "embeddings": material.key,
        "hierarchy": to_dict(config),
    }
    return rows.row(f"{config.method} {_shape(config.groups)}", spec, make)


def _read(embeddings: Storage) -> _Material:
    table = sibling(embeddings, "degrade", embeddings.done()["spec"]["table"])
    labels = read_labels(table)
    return _Material(
        key=key_of(embeddings),
        vectors=read_embeddings(embeddings)[1],
        labels=[names[0] if len(names) == 1 else "mixed" for names in labels],
    )


def embeddings_of(place: str) -> Storage:
    """Return the stored embeddings of a build.

    Args:
        place: The build's output folder, or the directory of the embeddings in its store.

    Raises:
        ArtefactError: If there are no finished embeddings.
    """
    given = Storage.open(place)
    found = given
    if given.exists("report.json"):
        stored = given.read_json("report.json").get("stored", {})
        found = Storage.open(with_keys_of(stored.get("embed/train", place), [place]))
    if not found.is_done():
        raise ArtefactError(
            f"{found.where()} holds no finished embeddings; give the output folder of a finished "
            "build, or a directory <store>/embed/<key>"
        )
    return found


def _at(values: Sequence[float], place: int) -> float | None:
    return values[place] if place < len(values) else None


def _shape(groups: Sequence[int]) -> str:
    return "{" + ", ".join(str(count) for count in groups) + "}" if groups else "none"
