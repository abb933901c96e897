import json
import math
from pathlib import Path

import numpy as np
import pytest

from expertree.report import Run, render_report, write_report
from expertree.storage import Storage


def test_all_files_are_written(run: Run, images: dict[str, bytes], tmp_path: Path) -> None:
    write_report(run, images, Storage.open(tmp_path / "report"))
    assert Storage.open(tmp_path / "report").list_files() == [
        "report.html",
        "report.json",
        "tables.csv",
        "tables.tex",
    ]


def test_report_json_holds_the_run_and_nothing_else(run: Run, images: dict[str, bytes]) -> None:
    assert json.loads(render_report(run, images)["report.json"]) == run


def test_numbers_of_numpy_and_those_that_json_lacks_are_written() -> None:
    run = {
        "title": "x",
        "cost": {
            "int": np.int64(3),
            "float": np.float32(0.5),
            "nan": math.nan,
            "inf": np.inf,
            "pair": (1, None),
        },
    }
    written = json.loads(render_report(run, {})["report.json"])
    assert written["cost"] == {"int": 3, "float": 0.5, "nan": None, "inf": None, "pair": [1, None]}


def test_the_same_run_gives_the_same_files(run: Run, images: dict[str, bytes]) -> None:
    assert render_report(run, images) == render_report(run, images)


def test_a_value_that_json_cannot_hold_is_named() -> None:
    with pytest.raises(ValueError, match="of type set cannot stand in JSON"):
        render_report({"title": "x", "config": {"tasks": {"noise"}}}, {})


def wrong(run: Run, what: str) -> Run:
    if what == "title":
        run["title"] = ""
    elif what == "row":
        run["tables"][1]["rows"][2]["ssim"] = [0.5]
    elif what == "parent":
        run["tree"]["nodes"][1]["parent"] = 7
    elif what == "routing":
        run["routing"]["out"]["leaves"].pop()
    elif what == "image":
        run["examples"][0]["clean"] = "missing.png"
    return run


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("title", "the run has no title"),
        ("row", "table 1 has 8 columns, but row 'one_network' has 1 values of ssim"),
        ("parent", "node 1 has parent 7, which does not come before it"),
        ("routing", "routing 'out' has 7 rows, but leaves has 6"),
        ("image", "names image 'missing.png', which was not given"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused(
    run: Run, images: dict[str, bytes], what: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        render_report(wrong(run, what), images)
