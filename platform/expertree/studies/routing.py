"""Study of how well routers choose, and what each part of their training and of the tree adds.

All tables come from the scores that a finished build has stored, so that no expert runs. Beside the
numbers stand the paper's (paper 000, tables H, 8, O and N).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from expertree.config import load, to_dict
from expertree.hierarchy import Tree
from expertree.pipeline.earlier_build import FinishedBuild, ScoredSet
from expertree.routing import (
    Route,
    RouterConfig,
    RouterOutput,
    audit_routes,
    decide,
    routed_scores,
    train_router,
)
from expertree.routing.losses import choice_nodes
from expertree.studies.kinds import KINDS, rows_of_kinds
from expertree.studies.tables import Cell, Rows, Table

VERSION = 2
"""Raise it when the same build would give other rows."""

SETS = ("val_in", "val_out")
COLUMNS: tuple[str, ...] = ("in, single", "in, mixed", "out, single", "out, mixed")

PAPER_LOSSES = {"L1": (24.14, 18.37), "+ L_dg": (24.35, 18.76), "+ L_aux": (24.46, 19.45)}
"""PSNR of mixed images in and out of distribution by losses, dB (paper 000, table H)."""

PAPER_LEVELS = {
    "{1}": (22.06, 17.23),
    "{8}": (24.22, 18.35),
    "{1, 4, 8} both routers": (24.46, 19.45),
}
"""PSNR of mixed images in and out of distribution by levels, dB (paper 000, table 8)."""

PAPER_AUDIT = {"val_in": (24.46, 24.53), "val_out": (19.45, 19.66)}
"""PSNR of mixed images as routed and with the best level, dB (paper 000, table O)."""

Change: TypeAlias = dict[str, Any]

LOSSES: Mapping[str, Change] = {
    "L1": {"alpha": 0.0, "beta": 0.0},
    "+ L_dg": {"beta": 0.0},
    "+ L_aux": {},
}
"""Rows of table H, as changes to the configuration."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RoutingConfig:
    """The build whose routers are studied, and their training."""

    build: str | None = None
    """A finished build's output folder."""

    router: RouterConfig = RouterConfig()
    """The training that the rows change."""

    num_seeds: int = 3
    """Number of trainings; each number in the tables is their mean."""


def study_routing(config: RoutingConfig, rows: Rows) -> tuple[Table, ...]:
    """Train routers on a build's scores in every variation, and compare them.

    Raises:
        ConfigError: If the build is not given.
        ArtefactError: If the build is not there.
    """
    study = _Study(config, rows, FinishedBuild(config.build, key="routing.build"))
    return (study.losses(), study.levels(), study.audit(), study.instructions())


class _Study:
    def __init__(self, config: RoutingConfig, rows: Rows, build: FinishedBuild) -> None:
        self._config, self._rows, self._build = config, rows, build
        self._sets: dict[str, ScoredSet] = {}

    def losses(self) -> Table:
        """Return table H, for each objective of the routers."""
        lines, columns = [], COLUMNS
        for objective in ("cost", "expected_l1", "paper"):
            for name, change in LOSSES.items():
                found = self._row(f"{objective}, {name}", change | {"objective": objective})
                paper = PAPER_LOSSES[name] if objective == "paper" else (None, None)
                lines.append((objective, name, *_psnrs(found, "routed"), *paper))
                columns = _columns(found)
        head = ("objective", "losses", *columns, "paper, in", "paper, out")
        return Table(
            title="Losses of the routers, PSNR in dB", columns=head, rows=tuple(lines), decimals=2
        )

    def levels(self) -> Table:
        """Return table 8: every set of levels, with and without the choice among them."""
        groups = self._build.tree.groups
        numbers = range(len(groups))
        shapes = [s for n in numbers for s in _subsets(len(groups), n + 1)]
        lines: list[tuple[Cell, ...]] = []
        columns = COLUMNS
        for shape in shapes:
            name = "{" + ", ".join(str(groups[level]) for level in shape) + "}"
            found = self._row(name, {}, levels=shape)
            for row, key in ((name, "finest"), (f"{name} both routers", "routed")):
                if key == "finest" or len(shape) > 1:
                    paper = PAPER_LEVELS.get(row, (None, None))
                    lines.append((row, *_psnrs(found, key), *paper))
            columns = _columns(found)
        head = ("levels", *columns, "paper, in", "paper, out")
        return Table(
            title="Levels, and the choice among them, PSNR in dB",
            columns=head,
            rows=tuple(lines),
            decimals=2,
            notes=("Without both routers the degradation router chooses, on the finest level.",),
        )

    def audit(self) -> Table:
        """Return table O, with the best of all experts."""
        found = self._row("audit", {}, insist=False)
        lines: list[tuple[Cell, ...]] = []
        for name, kind in _measured(found):
            values = found[name][kind]
            paper = PAPER_AUDIT[name] if kind == "mixed" else (None, None)
            gap = values["best_level"] - values["finest"]
            closed = (values["routed"] - values["finest"]) / gap if gap > 0 else None
            lines.append(
                (
                    _column(name, kind),
                    *(values[key] for key in ("finest", "routed", "best_level", "best")),
                    values["best_level"] - values["routed"],
                    closed,
                    values["agreement"],
                    values["as_is"],
                    _percents(values["routed_levels"]),
                    _percents(values["best_levels"]),
                    *paper,
                )
            )
        return Table(
            title="What a better choice would gain, PSNR in dB",
            columns=(
                "validation",
                *("finest", "routed", "best level", "best of all", "lost", "closed", "agreement"),
                "left as is",
                *("levels, %", "best levels, %", "paper routed", "paper best level"),
            ),
            rows=tuple(lines),
            decimals=2,
            notes=(
                "`closed` is the share of the way from the finest level to the best level.",
                "`finest`, `best level`: on the path of the leaf that the router chose.",
                "`left as is`: share of patches that no expert is predicted to make better.",
            ),
        )

    def instructions(self) -> Table:
        """Return table N: routes where the degradation is told."""
        spec = {
            "study": "instructions",
            "version": VERSION,
            "build": self._build.key,
            "router": to_dict(self._config.router),
        }
        found = self._rows.row("instructions", spec, self._instruct)
        columns = [column for column in COLUMNS if column in found["nothing"]]
        lines = [(name, *(values[c] for c in columns)) for name, values in found.items()]
        return Table(
            title="Instruction and hybrid mode, PSNR in dB",
            columns=("what is told", *columns),
            rows=tuple(lines),
            decimals=2,
            notes=("The confidence told is the one that restores the patch best.",),
        )

    def _instruct(self) -> dict[str, dict[str, float]]:
        tree, train = self._build.tree, self._set("route")
        router = train_router(
            self._config.router,
            tree,
            train.embeddings,
            train.psnr,
            train.inputs,
            seed=0,
            measures=train.measures,
        ).router
        guide = self._build.guide()
        found: dict[str, dict[str, float]] = {
            name: {} for name in ("nothing", "task", "task and confidence")
        }
        for name in SETS:
            data = self._set(name)
            with torch.inference_mode():
                output = router(data.points(tree, router))
            alone = decide(output, tree, insist=True)
            told = _decide_each(output, tree, [guide.leaf_mask(own) for own in data.tasks])
            paths = choice_nodes(tree)[[route.leaf for route in told]]
            rows = np.arange(len(alone))
            columns = {
                "nothing": routed_scores(alone, data.psnr, data.inputs),
                "task": routed_scores(told, data.psnr, data.inputs),
                "task and confidence": data.psnr[rows[:, None], paths].max(axis=1),
            }
            for kind, wanted in rows_of_kinds(data).items():
                for label, values in columns.items():
                    found[label][_column(name, kind)] = float(values[wanted].mean())
        return found

    def _row(
        self,
        name: str,
        change: Change,
        *,
        levels: Sequence[int] | None = None,
        insist: bool = True,
    ) -> dict[str, Any]:
        """Return the results of one variation; with `insist`, every patch goes to an expert."""
        config = load(RouterConfig, to_dict(self._config.router) | dict(change))
        spec = {
            "study": "routing",
            "version": VERSION,
            "build": self._build.key,
            "router": to_dict(config),
            "levels": list(levels) if levels is not None else None,
            "num_seeds": self._config.num_seeds,
            "insist": insist,
        }
        return self._rows.row(name, spec, lambda: self._measure(config, levels, insist=insist))

    def _measure(
        self, config: RouterConfig, levels: Sequence[int] | None, *, insist: bool
    ) -> dict[str, Any]:
        seeds = range(self._config.num_seeds)
        runs = [self._one(config, levels, seed, insist=insist) for seed in seeds]
        return {
            name: {kind: _mean([run[name][kind] for run in runs]) for kind in runs[0][name]}
            for name in SETS
        }

    def _one(
        self, config: RouterConfig, levels: Sequence[int] | None, seed: int, *, insist: bool
    ) -> dict[str, dict[str, dict[str, Any]]]:
        tree, train = self._build.tree, self._set("route")
        router = train_router(
            config,
            tree,
            train.embeddings,
            train.psnr,
            train.inputs,
            seed=seed,
            measures=train.measures,
            levels=levels,
        ).router
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for name in SETS:
            data = self._set(name)
            with torch.inference_mode():
                output = router(data.points(tree, router))
            routes = decide(output, tree, levels=levels, insist=insist)
            found[name] = {
                kind: self._compare(routes, data, rows, levels)
                for kind, rows in rows_of_kinds(data).items()
            }
        return found

    def _compare(
        self,
        routes: Sequence[Route],
        data: ScoredSet,
        rows: np.ndarray[Any, np.dtype[np.int64]],
        levels: Sequence[int] | None,
    ) -> dict[str, Any]:
        tree = self._build.tree
        chosen, psnr = [routes[row] for row in rows.tolist()], data.psnr[rows]
        found = audit_routes(chosen, psnr, tree, inputs=data.inputs[rows])
        finest = tree.num_levels - 1 if levels is None else max(levels)
        nodes = choice_nodes(tree)[[route.leaf for route in chosen], finest]
        return {
            "finest": float(psnr[np.arange(len(rows)), nodes].mean()),
            "routed": found.psnr_routed,
            "best_level": found.psnr_best_level,
            "best": found.psnr_best,
            "agreement": found.agreement,
            "as_is": found.as_is,
            "routed_levels": list(found.routed_levels),
            "best_levels": list(found.best_levels),
        }

    def _set(self, name: str) -> ScoredSet:
        if name not in self._sets:
            self._sets[name] = self._build.scored(name)
        return self._sets[name]


def _decide_each(
    output: RouterOutput, tree: Tree, masks: Sequence[tuple[bool, ...]]
) -> list[Route]:
    """Return the route of each sample, which has a mask of leaves of its own."""
    routes: list[Route | None] = [None] * len(masks)
    for mask in sorted(set(masks)):
        rows = [row for row, own in enumerate(masks) if own == mask]
        for row, route in zip(rows, decide(output.rows(rows), tree, leaf_mask=mask), strict=True):
            routes[row] = route
    return [route for route in routes if route is not None]


def _mean(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: np.mean([value[name] for value in values], axis=0).tolist() for name in values[0]}


def _psnrs(found: Mapping[str, Any], key: str) -> tuple[float, ...]:
    return tuple(found[name][kind][key] for name, kind in _measured(found))


def _measured(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the sets and kinds of a row: a set without mixtures has none to measure."""
    return [(name, kind) for name in SETS for kind in KINDS if kind in found[name]]


def _columns(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_column(name, kind) for name, kind in _measured(found))


def _column(name: str, kind: str) -> str:
    return f"{name.removeprefix('val_')}, {kind}"


def _percents(shares: Sequence[float]) -> str:
    return " ".join(f"{100 * share:.0f}" for share in shares)


def _subsets(size: int, length: int) -> list[tuple[int, ...]]:
    """Return all ways to keep `length` of `size` levels, in order."""
    kept = [tuple(n for n in range(size) if bits >> n & 1) for bits in range(1, 1 << size)]
    return [levels for levels in kept if len(levels) == length]
