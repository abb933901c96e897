"""The files of a comparison say what was found, whatever the format."""

import csv
import dataclasses
import io
import json

import pytest

from expertree.comparison.costs import CostRow
from expertree.comparison.files import best_of, words
from expertree.comparison.page import render_comparison
from expertree.comparison.record import (
    Choices,
    Comparison,
    Difference,
    Paired,
    Row,
    Table,
    Value,
    best_blind,
)
from expertree.evaluation.paired import Interval
from expertree.evaluation.public_sets import Column, Result, SetsTable
from expertree.evaluation.public_sets import Row as SetsRow
from expertree.report.formatting import MINUS


def value(*values: float) -> Value:
    return Value(values=values)


def row(method: str, db: float, *, told: bool = False) -> Row:
    cells = tuple(value(db + shift, db + shift + 0.5) for shift in (0.0, 2.0, 1.0))
    share = (value(0.25, 0.5),) * 3
    return Row(method=method, told=told, psnr=cells, ssim=share, harmed=share)


def cost(method: str, *, told: bool = False) -> CostRow:
    return CostRow(
        method=method,
        told=told,
        network="nafnet",
        num_networks=5,
        rate=1.0,
        num_parameters=1_200_000,
        num_active_parameters=300_000,
        num_beside=0,
        least_multiply_adds_512=0,
        multiply_adds_512=4_100_000_000,
        latency_ms=123.4,
        num_samples=4800,
        training_multiply_adds=3.2e14,
        core_hours=0.51,
        searched_samples=600,
        searched_core_hours=0.06,
        routers_samples=0 if told else 16_800,
        routers_multiply_adds=0.0 if told else 1.24e12,
    )


INPUT = Row(
    method="input",
    told=False,
    psnr=(value(40.0),) * 3,
    ssim=(value(0.9),) * 3,
    harmed=(value(0.0),) * 3,
)
TABLE = Table(
    distribution="in",
    kind="single",
    columns=("noise", "low_light", "average"),
    rows=(INPUT, row("tree_1", 25.0), row("a & b", 24.0), row("hinted", 30.0, told=True)),
)
RECORD = Comparison(
    title="Some <methods>",
    command="expertree compare x",
    created="2026-11-30T05:00:00+00:00",
    commit="abc",
    machine="Linux",
    match="samples",
    seeds=(3, 8),
    num_images={"in": 20, "out": 20},
    tables=(TABLE,),
    paired=(
        Paired(
            distribution="in",
            best="tree_1",
            rows=(Difference(method="a & b", interval=Interval(mean=-1.0, low=-1.5, high=0.5)),),
        ),
    ),
    costs=(cost("tree_1"), cost("a & b"), cost("hinted", told=True)),
    choices=(
        Choices(
            method="tree_1",
            place=1,
            experts=("as it is", "4"),
            degradations=("noise", "low_light"),
            shares=((0.25, 0.75), (1.0, 0.0)),
            information=(value(0.5, 0.6),),
            chance=0.1,
            most=1.0,
        ),
    ),
    sets=SetsTable(
        columns=(
            Column(key="rain100l/test/y", title="Rain100L", protocol="Y", num_images=100),
            Column(key="lol_v1/x", title="LOL", protocol="RGB", num_images=3, is_whole=False),
        ),
        rows=(
            SetsRow(
                kind="routed",
                method="tree_1",
                results={
                    "rain100l/test/y": Result(psnr=32.5, ssim=0.95),
                    "lol_v1/x": Result(psnr=20.0, ssim=0.75),
                },
            ),
            SetsRow(
                kind="published",
                method="Some <other>",
                results={"rain100l/test/y": Result(psnr=37.25, ssim=None, mark="a")},
            ),
        ),
        marks={"a": "on other images"},
    ),
    notes=("A note.",),
    config={"samples": 4800},
)


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return {name: data.decode() for name, data in render_comparison(RECORD).items()}


def test_json_holds_the_whole_record(files: dict[str, str]) -> None:
    assert json.loads(files["compare.json"]) == json.loads(json.dumps(dataclasses.asdict(RECORD)))


def test_csv_has_a_line_for_each_seed_and_degradation(files: dict[str, str]) -> None:
    rows = list(csv.DictReader(io.StringIO(files["compare.csv"])))
    assert len(rows) == 3 + 3 * 2 * 3
    (found,) = (
        one
        for one in rows
        if (one["method"], one["seed"], one["degradation"]) == ("tree_1", "8", "low_light")
    )
    assert (found["psnr_rgb"], found["harmed"], found["told"]) == ("27.5", "0.5", "False")


def test_the_best_is_never_one_that_is_told_or_the_input(files: dict[str, str]) -> None:
    assert best_blind(TABLE) == "tree_1"
    assert best_of(TABLE) == (25.25, 27.25, 26.25)
    assert "| tree_1 | **25.25** | **27.25** | **26.25 (26.00 to 26.50)** |" in files["compare.md"]
    assert "| hinted † | 30.25 |" in files["compare.md"]
    assert r"a \& b & 24.25" in files["compare.tex"]
    assert r"\textbf{25.25}" in files["compare.tex"]
    assert r"\textbf{40.00}" not in files["compare.tex"]


def test_markdown_says_what_made_it_and_how_sure_it_is(files: dict[str, str]) -> None:
    text = files["compare.md"]
    assert text.startswith("    expertree compare x\n\n2026-11-30, commit `abc`, Linux;")
    assert f"| a & b | {MINUS}1.00 | {MINUS}1.50 to +0.50 |" in text
    assert "Its choice tells 0.55 (0.50 to 0.60) of 1.00 bits of the degradation" in text
    assert "| low-light | 100 % | 0 % |" in text
    assert "600 samples, 0.060 h" in text


def test_what_routers_take_stands_beside_the_budget(files: dict[str, str]) -> None:
    lines = [line for line in files["compare.md"].splitlines() if line.startswith("|")]
    heads, _, first, _, told = lines[:5]
    assert heads.endswith("| search for the rate | to train routers |")
    assert first.endswith("| 16,800 patches restored, 1.24 T |")
    assert told.endswith("| none |")
    assert "16,800 patches restored, 1.24 T" in files["compare.html"]


def test_the_page_needs_no_other_file_and_escapes_names(files: dict[str, str]) -> None:
    page = files["compare.html"]
    assert "Some &lt;methods&gt;" in page
    assert "default-src 'none'" in page
    assert "src=" not in page.replace("img-src", "").replace("script-src", "").replace(
        "style-src", ""
    )
    assert 'style="left: 0.0%; width: 100.0%"' in page  # -1.5 to 0.5, zero inside
    assert "A note." in page


def test_one_seed_has_no_range() -> None:
    assert words(value(25.0)) == "25.00"


def test_public_sets_stand_beside_what_others_published(files: dict[str, str]) -> None:
    assert "Rain100L" in files["compare.html"]
    assert "Some &lt;other&gt;" in files["compare.html"]
    assert "on other images" in files["compare.html"]
    assert "| tree_1 | 32.50 |" in files["compare.md"]
    assert "LOL, 3 of its images" in files["compare.md"]
    assert "other" not in files["compare.md"]
    lines = list(csv.DictReader(io.StringIO(files["sets.csv"])))
    assert [line["psnr"] for line in lines] == ["32.5", "20.0", "37.25"]
    assert json.loads(files["compare.json"])["sets"]["rows"][1]["method"] == "Some <other>"


def test_without_public_sets_there_is_nothing_of_them() -> None:
    files = render_comparison(dataclasses.replace(RECORD, sets=None))
    assert "sets.csv" not in files
    assert b"Public sets" not in files["compare.html"]
