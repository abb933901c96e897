"""The dashboard as W&B stores it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expertree.errors import ConfigError
from expertree.search.followed import end_scalars, rung_scalars, tree_scalars
from expertree.tracking import dashboard as dashboards
from expertree.tracking import wandb
from expertree.tracking.dashboard import DashboardConfig, dashboard_json, publish
from expertree.tracking.sweep import SweepIdentity, remember

EXAMPLE = Path(__file__).parents[1] / "search" / "example_search.json"


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    spec = dashboard_json(DashboardConfig())
    sections = spec["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def of_kind(panels: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [panel for panel in panels if panel["viewType"] == kind]


def test_parallel_coordinates_go_from_the_shape_to_both_psnr(panels: list[dict[str, Any]]) -> None:
    (plot,) = of_kind(panels, "Parallel Coordinates Plot")
    axes = [column["accessor"] for column in plot["config"]["columns"]]
    assert axes == [
        f"summary:{key}"
        for key in (
            *("tree.levels", "tree.k1", "tree.k2", "tree.k3", "tree.k4", "router.alpha"),
            *("router.beta", "tree.num_experts", "gpu_hours", "psnr.in", "psnr.out"),
        )
    ]


def test_there_is_a_panel_of_each_kind(panels: list[dict[str, Any]]) -> None:
    importance = of_kind(panels, "Parameter Importance")
    assert [p["config"]["targetKey"] for p in importance] == ["psnr.in", "psnr.out"]
    fronts = {(p["config"]["xAxis"], p["config"]["yAxis"]) for p in of_kind(panels, "Scatter Plot")}
    assert ("summary:gpu_hours", "summary:psnr.in") in fronts
    assert ("summary:tree.num_parameters", "summary:psnr.out") in fronts
    titles = [p["config"].get("chartTitle", "") for p in of_kind(panels, "Bar Chart")]
    for words in ("Silhouette", "Smallest group", "Lost against", "Level that noise is sent to"):
        assert any(title.startswith(words) for title in titles)
    media = {key for p in of_kind(panels, "Media Browser") for key in p["config"]["mediaKeys"]}
    assert media == {"tree", "patches"}


def test_panels_read_only_what_trials_write(panels: list[dict[str, Any]]) -> None:
    record = json.loads(EXAMPLE.read_text())
    trial = max(record["trials"], key=lambda trial: len(trial["reached"]))
    measured = {"tree.num_parameters": 1.0} | {f"tree.silhouette.{n}": 1.0 for n in (1, 2, 3)}
    written = {
        *(key for trial in record["trials"] for key in tree_scalars(trial)),
        *end_scalars(trial | {"measured": measured}),
        *rung_scalars(trial["reached"][0]),
    }
    read = {
        value.removeprefix("summary:")
        for panel in panels
        for value in _strings(panel["config"])
        if value.startswith("summary:")
    }
    assert read <= written


def test_dashboard_and_sweep_have_one_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = SweepIdentity(search="s", name="n", parameters={"router.alpha": {"values": [1]}})
    remember(identity, "", tmp_path)
    (tmp_path / "trial-0003").mkdir()
    made: list[dict[str, Any]] = []
    saved: list[str] = []

    def save(self: Any) -> Any:
        saved.append(self.entity)
        return SimpleNamespace(url="http://w/team/p?nw=1")

    monkeypatch.setattr(dashboards, "check_key", lambda: None)
    monkeypatch.setattr(dashboards.ws.Workspace, "save", save)
    monkeypatch.setattr(wandb.wandb, "sweep", lambda _, **given: made.append(given) or "id7")
    _, sweep = publish(DashboardConfig(entity="team", project="p", search=str(tmp_path)))
    assert made == [{"entity": "team", "project": "p", "prior_runs": ["s-0003"]}]
    assert saved == ["team"]
    assert sweep == "http://w/team/p/sweeps/id7"


def test_publishing_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no API key"):
        publish(DashboardConfig(search=str(tmp_path)))


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for entry in value.values() for text in _strings(entry)]
    if isinstance(value, list):
        return [text for entry in value for text in _strings(entry)]
    return [value] if isinstance(value, str) else []
