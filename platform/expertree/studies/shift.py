"""Study of routing as inputs move out of distribution: mean level and PSNR at points of shift.

The parameters of all degradations go from the mildest in distribution to the severest out of it
(paper 000, figure 5). The claim under test: the mean level gets coarser on the way, and routing
through levels stays above routing at the finest level. Levels are compared, so an expert is chosen
for every patch.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from expertree.config import load, to_dict
from expertree.degradation.recipe import MIN_MIXED_TASKS, mixable
from expertree.degradation.table import PatchSet
from expertree.errors import ConfigError
from expertree.events import EventLog
from expertree.orchestration.runner import runner_of
from expertree.pipeline.build import prepare
from expertree.pipeline.earlier_build import FinishedBuild, ScoredSet
from expertree.pipeline.patch_sets import (
    embed_tables,
    make_tables,
    score_tables,
)
from expertree.pipeline.score import INPUTS, MEASURES, Measured, Scored
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench, key_of
from expertree.routing import Router, RouterConfig, audit_routes, decide, train_router
from expertree.studies.kinds import KINDS, rows_of_kinds
from expertree.studies.tables import Cell, Rows, Table

VERSION = 2
"""Raise it when the same build would give other rows."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShiftConfig:
    """The build under study, and the points of shift."""

    build: str | None = None
    """A finished build's output folder. Its photographs must still be where they were."""

    num_points: int = 15
    """Number of points from 0 to 1, as in the paper."""

    num_patches: int = 140
    """Patches at each point, of the build's validation photographs."""

    mixed_fraction: float = 0.5
    """Share of the patches that has several degradations; none has where the build has fewer than
    two that can be mixed."""

    router: RouterConfig = RouterConfig()
    """Training of the routers under study, on the build's own set for routers."""

    def __post_init__(self) -> None:
        """Raise ConfigError unless there are at least two points."""
        if self.num_points < 2:
            raise ConfigError(f"shift.num_points must be at least 2, got {self.num_points}")


def study_shift(config: ShiftConfig, rows: Rows) -> tuple[Table, ...]:
    """Degrade, embed and score patches at every point, and compare their routes.

    Raises:
        ConfigError: If the build is not given.
        ArtefactError: If the build is not there.
        PhotoError: If its photographs are not there.
    """
    points = [n / (config.num_points - 1) for n in range(config.num_points)]
    study = _Study(config, FinishedBuild(config.build, key="shift.build"), points)
    with study.at_work():
        found = [study.row(point, rows) for point in points]
    return tuple(_table(kind, points, found) for kind in KINDS if all(kind in row for row in found))


def _table(kind: str, points: list[float], found: list[dict[str, Any]]) -> Table:
    lines: list[tuple[Cell, ...]] = []
    for point, row in zip(points, found, strict=True):
        values = row[kind]
        names = ("mean_level", "best_mean_level", "root", "finest", "routed", "best_level", "best")
        lines.append(
            (point, *(values[name] for name in names), values["routed"] - values["finest"])
        )
    return Table(
        title=f"Points of shift, {kind} degradations, PSNR in dB",
        columns=(
            *("shift", "mean level", "mean best level", "root", "finest", "routed"),
            *("best level", "best of all", "routed - finest"),
        ),
        rows=tuple(lines),
        decimals=2,
        notes=("0 is the mildest in distribution, 1 the severest out of it; level 0 is the root.",),
    )


class _Study:
    def __init__(self, config: ShiftConfig, build: FinishedBuild, points: list[float]) -> None:
        self._config, self._build = config, build
        self._settings: BuildConfig = load(BuildConfig, build.report["config"])
        can_mix = len(mixable(self._settings.degradation.tasks)) >= MIN_MIXED_TASKS
        self._mixed_fraction = config.mixed_fraction if can_mix else 0.0
        self._sets = {point: self._patch_set(point) for point in points}
        self._scored: dict[float, ScoredSet] = {}
        self._router: Router | None = None
        self._bench: Workbench | None = None

    def _patch_set(self, severity: float) -> PatchSet:
        return self._settings.degradation.shift_set(
            severity, self._config.num_patches, self._mixed_fraction
        )

    def _train_router(self) -> Router:
        tree, data = self._build.tree, self._build.scored("route")
        return train_router(
            self._config.router,
            tree,
            data.embeddings,
            data.psnr,
            data.inputs,
            seed=self._settings.seed,
            measures=data.measures,
        ).router

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Open a workbench on the build's store; it needs a cluster only for missing results."""
        with TemporaryDirectory() as folder, self._open_bench(Path(folder)) as self._bench:
            yield

    def _open_bench(self, folder: Path) -> Workbench:
        return Workbench(
            store=self._build.store,
            events=EventLog(folder / "events.jsonl"),
            runner=runner_of(self._settings.cluster),
            on_stage=_ignore,
        )

    def row(self, severity: float, rows: Rows) -> dict[str, Any]:
        """Return the results at one point."""
        spec = {
            "study": "shift",
            "version": VERSION,
            "build": self._build.key,
            "severity": severity,
            "num_patches": self._config.num_patches,
            "mixed_fraction": self._mixed_fraction,
            "router": to_dict(self._config.router),
        }
        return rows.row(f"shift {severity:.2f}", spec, lambda: self._measure(severity))

    def _measure(self, severity: float) -> dict[str, Any]:
        if not self._scored:
            self._scored, self._router = self._score_all(), self._train_router()
        data = self._scored[severity]
        return {kind: self._compare(data, rows) for kind, rows in rows_of_kinds(data).items()}

    def _score_all(self) -> dict[float, ScoredSet]:
        """Score all points at once: starting actors costs more than the patches of one point."""
        if self._bench is None:
            raise ValueError("points are measured while the study is at work")
        experts: dict[str, Scored] = {INPUTS: None}
        experts |= {key_of(e): e for e in self._build.experts.values()}
        if self._config.router.reads_measures:
            experts[MEASURES] = Measured.like(self._build.directory("extractor"))
        material, seed = prepare(self._settings), self._settings.seed
        sets = {patch_set.name: patch_set for patch_set in self._sets.values()}
        tables = make_tables(self._bench, sets, material, seed=seed)
        embeddings = embed_tables(self._bench, tables, self._build.directory("extractor"))
        wanted = [(key, name) for name in tables for key in experts]
        scores = score_tables(self._bench, tables, experts, wanted)
        return {
            point: self._build.scored_at(
                tables[one.name], embeddings[one.name], scores.get((MEASURES, one.name))
            )
            for point, one in self._sets.items()
        }

    def _compare(
        self, data: ScoredSet, rows: np.ndarray[Any, np.dtype[np.int64]]
    ) -> dict[str, Any]:
        if self._router is None:
            raise ValueError("points are measured with a trained router")
        tree, psnr = self._build.tree, data.psnr[rows]
        with torch.inference_mode():
            points = data.points(tree, self._router)[torch.from_numpy(rows)]
            routes = decide(self._router(points), tree, insist=True)
        found = audit_routes(routes, psnr, tree, inputs=data.inputs[rows])
        return {
            "mean_level": found.mean_level,
            "best_mean_level": found.best_mean_level,
            "root": found.psnr_root,
            "finest": found.psnr_finest,
            "routed": found.psnr_routed,
            "best_level": found.psnr_best_level,
            "best": found.psnr_best,
        }


def _ignore(name: str, state: str, num_done: int, num_total: int) -> None:
    """Ignore the progress of a stage; a study reports its rows only."""
