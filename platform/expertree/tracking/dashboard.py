"""The dashboard of searches at Weights & Biases, as code.

Panels read summaries of runs by the names that `search/followed.py` and experts' training log.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from expertree.degradation.registry import DEFAULT_TASKS
from expertree.errors import ArtefactError, ConfigError
from expertree.tracking.sweep import SWEEP_FILE, SweepIdentity, remember
from expertree.tracking.tracker import TrackingConfig
from expertree.tracking.wandb import check_key, create_sweep, default_entity

LEVELS = (0, 1, 2, 3)
"""Levels that panels are made for; a run without one leaves its bar out."""

CHOSEN = (
    "tree.levels",
    *(f"tree.k{1 + level}" for level in LEVELS),
    "router.alpha",
    "router.beta",
    "tree.num_experts",
    "gpu_hours",
)
"""Axes of the parallel coordinates that show choices; the axes of `JUDGED` follow them."""

JUDGED = ("psnr.in", "psnr.out")
NAMES = {"psnr.in": "PSNR in distribution (dB)", "psnr.out": "PSNR out of distribution (dB)"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DashboardConfig:
    """Settings of a dashboard, and of the search that it is for."""

    project: str = TrackingConfig().project
    """The W&B project."""

    entity: str = ""
    """User or team that owns the project; empty for the one that the API key belongs to."""

    name: str = "expertree searches"
    """Heading of the dashboard."""

    search: str | None = None
    """Folder of a search's tracked runs (`tracking` in its output), sent with `wandb sync` before.
    A sweep is made of them. Null: no sweep is made."""

    dry_run: bool = False
    """Print the dashboard's JSON; needs neither server nor key."""


def dashboard(config: DashboardConfig) -> ws.Workspace:
    """Return the layout of the dashboard, without asking a server."""
    return ws.Workspace(
        entity=config.entity or "entity",
        project=config.project,
        name=config.name,
        sections=[
            _section("What to build", _judged_panels()),
            _section("Rungs", _rung_panels()),
            _section("Trees", _tree_panels()),
            _section("Routing", _routing_panels()),
            _section("Experts", _expert_panels()),
        ],
    )


def dashboard_json(config: DashboardConfig) -> dict[str, Any]:
    """Return the dashboard as the JSON that W&B stores."""
    # The library has no public way to its JSON.
    spec = dashboard(config)._to_model().spec  # noqa: SLF001
    return cast(
        "dict[str, Any]", json.loads(spec.model_dump_json(by_alias=True, exclude_none=True))
    )


def publish(config: DashboardConfig) -> tuple[str, str]:
    """Save the dashboard at the server, and make a sweep of the search's runs if one is given.

    Returns:
        Addresses of the dashboard, and of the sweep (empty if there is none).

    Raises:
        ConfigError: If there is no key, or the folder has no runs.
        ArtefactError: If the folder has no tracked search.
    """
    check_key()
    found = dataclasses.replace(config, entity=config.entity or default_entity())
    sweep = _sweep_of(found) if found.search is not None else ""
    url = str(dashboard(found).save().url)
    return url, sweep and f"{url.split('?', maxsplit=1)[0]}/sweeps/{sweep}"


def _sweep_of(config: DashboardConfig) -> str:
    directory = Path(cast("str", config.search))
    file = directory / SWEEP_FILE
    if not file.exists():
        raise ArtefactError(f"{directory} has no {SWEEP_FILE}: it is not the folder of a search")
    record = json.loads(file.read_text())
    if record["sweep"]:
        return str(record["sweep"])
    identity = SweepIdentity(**{key: value for key, value in record.items() if key != "sweep"})
    runs = [f"{identity.search}-{path.name.split('-')[1]}" for path in _trials(directory)]
    if not runs:
        raise ConfigError(f"{directory} has no runs of trials")
    sweep = create_sweep(
        TrackingConfig(backend="wandb", project=config.project),
        identity.name,
        identity.parameters,
        runs,
        entity=config.entity,
    )
    remember(identity, sweep, directory)
    return sweep


def _trials(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("trial-*") if path.is_dir())


def _section(name: str, panels: Sequence[Any]) -> ws.Section:
    return ws.Section(name=name, panels=list(panels), is_open=True)


def _judged_panels() -> list[Any]:
    columns = [
        wr.ParallelCoordinatesPlotColumn(
            metric=wr.SummaryMetric(key), log=key.startswith("router.")
        )
        for key in (*CHOSEN, *JUDGED)
    ]
    wide = wr.Layout(x=0, y=0, w=24, h=9)
    plot = wr.ParallelCoordinatesPlot(title="Trees and what they reach", columns=columns)
    plot.layout = wide
    fronts = [
        _scatter(f"{NAMES[key]} against {words}", axis, key)
        for axis, words in (
            ("gpu_hours", "GPU-hours"),
            ("tree.num_parameters", "parameters in all"),
        )
        for key in JUDGED
    ]
    return [plot, *(wr.ParameterImportancePlot(with_respect_to=key) for key in JUDGED), *fronts]


def _scatter(title: str, x: str, y: str) -> Any:  # noqa: ANN401 - a panel
    return wr.ScatterPlot(
        title=title,
        x=wr.SummaryMetric(x),
        y=wr.SummaryMetric(y),
        # The best so far, from cheap to dear: the Pareto front's stairs.
        running_ymax=True,
    )


def _rung_panels() -> list[Any]:
    return [
        wr.LinePlot(title=NAMES[key], x="rung.fraction", y=[key], title_x="share of the samples")
        for key in JUDGED
    ]


def _tree_panels() -> list[Any]:
    return [
        wr.MediaBrowser(title="Trees", media_keys=["tree"], num_columns=3),
        _bars("Silhouette by level", [f"tree.silhouette.{level}" for level in LEVELS[1:]]),
        _bars("Smallest group by level", [f"tree.smallest_group.{level}" for level in LEVELS]),
    ]


def _routing_panels() -> list[Any]:
    return [
        _bars(
            "Lost against the best level of the path (dB)",
            ["best_level_gap.in", "best_level_gap.out"],
        ),
        *(
            _bars(
                f"Level that {degradation.replace('_', ' ')} is sent to, share of its images",
                [f"routed.{degradation}.{level}" for level in LEVELS],
            )
            for degradation in DEFAULT_TASKS
        ),
    ]


def _expert_panels() -> list[Any]:
    return [
        wr.MediaBrowser(title="Patches: degraded, restored, clean", media_keys=["patches"]),
        wr.LinePlot(title="Training loss", x="step", y=["loss"], title_x="samples seen"),
        wr.LinePlot(title="Samples per second", x="step", y=["samples_per_s"]),
    ]


def _bars(title: str, keys: Sequence[str]) -> Any:  # noqa: ANN401 - a panel
    return wr.BarPlot(title=title, metrics=list(keys))
