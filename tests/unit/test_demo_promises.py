"""What the demo promises, and that a report which breaks it is found out."""

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "assert_demo.py"
SPEC = importlib.util.spec_from_file_location("assert_demo", SCRIPT)
assert_demo = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(assert_demo)


def table(distribution: str, kind: str = "single") -> dict[str, Any]:
    rows = [
        {"method": "input", "psnr_rgb": [20.0, 20.0], "ssim": [0.6, 0.6]},
        {"method": "routed", "psnr_rgb": [26.0, 26.0], "ssim": [0.8, 0.8]},
    ]
    columns = ["noise", "average"]
    return {"distribution": distribution, "kind": kind, "columns": columns, "rows": rows}


@pytest.fixture
def report() -> dict[str, Any]:
    return {
        "summary": {
            "psnr_rgb": {name: {"input": 20.0, "routed": 26.0} for name in ("in", "out")},
            "harmed": {name: {"input": 0.0, "routed": 0.02} for name in ("in", "out")},
            "gain_db": {"in": 6.0, "out": 6.0},
            "gain_over": {"in": "input", "out": "input"},
        },
        "tables": [table("in"), table("out"), table("in", "mixed")],
        "cost": {"wall_s": 480.0},
    }


def test_a_good_demo_breaks_nothing_and_its_gain_is_printed(
    report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert assert_demo.main(str(path)) == 0
    printed = capsys.readouterr().out
    assert "gain +6.00 dB over input" in printed
    assert "the job took 480 s" in printed
    report["cost"]["wall_s"] = 1900.0
    path.write_text(json.dumps(report))
    assert assert_demo.main(str(path)) == 1
    assert "BROKEN the job took 1900 s, at most 900" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("summary", "psnr_rgb", "in", "routed"), 25.1, "in: routed 25.10 dB, at least 25.20"),
        (("summary", "gain_db", "out"), 0.0, "out: gain +0.00 dB, at least +0.30"),
        (("summary", "psnr_rgb", "out", "routed"), float("nan"), "out: routed nan dB"),
        (("summary", "harmed", "out", "routed"), 0.09, "out: 9.0% of images harmed"),
        (("tables", 1, "rows", 1, "psnr_rgb", 0), 18.4, "out: noise psnr_rgb 20 to 18.4"),
        (("tables", 0, "rows", 1, "ssim", 0), 0.51, "in: noise ssim 0.6 to 0.51"),
    ],
)
def test_each_promise_is_held_by_itself(
    report: dict[str, Any], place: tuple[str | int, ...], value: float, said: str
) -> None:
    spoiled = copy.deepcopy(report)
    *path, last = place
    entry: Any = spoiled
    for key in path:
        entry = entry[key]
    entry[last] = value
    (broken,) = assert_demo.broken_promises(spoiled)
    assert broken.startswith(said)


def test_the_average_alone_may_be_worse(report: dict[str, Any]) -> None:
    report["tables"][0]["rows"][1]["psnr_rgb"][1] = 10.0
    assert list(assert_demo.broken_promises(report)) == []


def test_mixed_degradations_may_be_worse(report: dict[str, Any]) -> None:
    report["tables"][2]["rows"][1]["psnr_rgb"] = [10.0, 10.0]
    assert list(assert_demo.broken_promises(report)) == []
