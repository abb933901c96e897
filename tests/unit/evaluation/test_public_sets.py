"""Published facts, and tables of public sets with averages and marks."""

import pytest

from expertree.config import load
from expertree.datasets import DATASETS
from expertree.errors import ConfigError
from expertree.evaluation.public_sets import (
    AVERAGES,
    DERIVED,
    Column,
    Result,
    Row,
    column_key,
    grids,
    make_table,
    with_averages,
)
from expertree.evaluation.published import Published, PublishedRow, read_published
from expertree.report.sets_page import tables_of

PRINTED = {
    ("AirNet", "3 tasks"): 31.20,
    ("PromptIR", "3 tasks"): 32.06,
    ("LoRA-IR", "3 tasks"): 32.42,
    ("MoCE-IR-S", "3 tasks"): 32.57,
    ("AdaIR", "3 tasks"): 32.69,
    ("MoCE-IR", "3 tasks"): 32.73,
    ("SLER-IR", "3 tasks"): 33.14,
    ("AirNet", "5 tasks"): 25.49,
    ("PromptIR", "5 tasks"): 29.15,
    ("MoCE-IR-S", "5 tasks"): 30.08,
    ("AdaIR", "5 tasks"): 30.20,
    ("MoCE-IR", "5 tasks"): 30.58,
    ("SLER-IR", "5 tasks"): 31.73,
    ("MaskDCPT + NAFNet", "5 tasks, pre-trained on 2.5 M pairs"): 32.09,
    ("UniRestorer", "7 tasks"): 32.77,
    ("UniRestorer-LoRA", "7 tasks"): 31.81,
}
"""Averages as the papers print them; ours are computed from the columns."""


def columns_of_sets() -> set[str]:
    every = {
        column_key(name, split, protocol.name)
        for name, spec in DATASETS.items()
        for split in spec.measured
        for protocol in spec.splits[split].protocols
    }
    kinds = {f"{name}/{kind}" for name, spec in DATASETS.items() for kind in spec.kinds}
    return every | kinds


def test_every_published_column_is_one_that_is_measured() -> None:
    known = columns_of_sets() | set(DERIVED)
    for row in read_published().rows:
        assert set(row.results) <= known, row.method
        assert row.source
    for parts in (*DERIVED.values(), *AVERAGES.values()):
        assert set(parts) <= known


@pytest.mark.parametrize(("model", "printed"), PRINTED.items())
def test_averages_of_published_rows_are_those_that_papers_print(model, printed) -> None:
    name = {"3": "3T", "5": "5T", "7": "7T"}[model[1][0]]
    (row,) = [one for one in read_published().rows if (one.method, one.setting) == model]
    results = {key: Result(psnr=psnr, ssim=ssim) for key, (psnr, ssim) in row.results.items()}
    found = with_averages(Row(kind="published", method=row.method, results=results)).results
    assert found[name].psnr == pytest.approx(printed, abs=0.011)


def test_an_average_is_there_only_where_all_of_its_columns_are() -> None:
    results = {key: Result(psnr=30.0, ssim=0.9) for key in AVERAGES["3T"]}
    whole = with_averages(Row(kind="routed", method="ours", results=results)).results
    assert (whole["3T"], whole["cbsd68/noise"].psnr) == (Result(psnr=30.0, ssim=0.9), 30.0)
    assert "5T" not in whole
    del results["cbsd68/noise50"]
    part = with_averages(Row(kind="routed", method="ours", results=results)).results
    assert {"3T", "cbsd68/noise"}.isdisjoint(part)


FACTS = {
    "protocols": {"same": {"text": "as here"}, "other": {"text": "x", "differs": {"*": "noise"}}},
    "rows": [
        {
            "method": "A",
            "protocol": "same",
            "source": "paper A",
            "results": {"rain12/test/y": [33.0, None], "sidd/val/rgb": [39.0, 0.9]},
        },
        {
            "method": "B",
            "protocol": "other",
            "source": "b",
            "results": {"rain12/test/y": [34, 0.9]},
        },
        {"method": "C", "protocol": "same", "source": "c", "results": {"hide/test/rgb": [30, 0.9]}},
    ],
}


@pytest.fixture
def facts(tmp_path) -> Published:
    path = tmp_path / "facts.yaml"
    path.write_text(str(FACTS).replace("None", "null"))
    return read_published(path)


def test_a_table_has_rows_of_others_on_its_columns_with_marks(facts) -> None:
    column = Column(key="rain12/test/y", title="Rain12 Y", protocol="Y", num_images=12)
    ours = [
        Row(kind="input", method="input", results={"rain12/test/y": Result(psnr=30, ssim=0.8)}),
        Row(kind="routed", method="ours", results={"rain12/test/y": Result(psnr=32, ssim=0.9)}),
    ]
    table = make_table([column], ours, facts)
    assert [row.method for row in table.rows] == ["input", "ours", "A", "B"]
    assert all(set(row.results) == {"rain12/test/y"} for row in table.rows)
    assert [row.results["rain12/test/y"].mark for row in table.rows] == ["", "", "", "a"]
    assert table.marks == {"a": "noise"}
    assert [grid.title for grid in grids(table)] == ["Rain"]


def test_what_differs_of_a_column_stands_beside_what_differs_of_all() -> None:
    data = {**FACTS, "protocols": {"p": {"text": "x", "differs": {"*": "SSIM", "a/b": "noise"}}}}
    published = load(Published, {**data, "rows": []})
    row = PublishedRow(method="A", protocol="p", source="s", results={})
    assert published.difference(row, "a/b") == "SSIM; noise"
    assert published.difference(row, "a/c") == "SSIM"


@pytest.mark.parametrize(
    ("method", "column", "words"),
    [
        ("AirNet", "cbsd68/noise25", ("float images", "window of 7 px", "truncated")),
        ("AdaIR", "gopro/test/rgb", ("float images", "window of 7 px")),
        ("InstructIR-3D, told", "cbsd68/noise15", ("told", "neither clipped", "prepared")),
        ("InstructIR-5D, without text", "lol_v1/test/rgb16", ("neither clipped",)),
        ("UniRestorer", "cdd11/low", ("SSIM by each paper's code",)),
        ("Histoformer", "snow100k/S/y", ("uniform window of 11 px",)),
    ],
)
def test_other_kinds_of_psnr_and_ssim_are_marked(method, column, words) -> None:
    published = read_published()
    own = [row for row in published.rows if row.method == method and column in row.results]
    assert own
    for row in own:
        assert all(word in published.difference(row, column) for word in words)


def test_a_source_holds_the_numbers_of_its_rows() -> None:
    held = {"LIME": 16.76, "RetinexNet": 16.77, "DRBN": 20.13, "KinD": 20.87}
    rows = [row for row in read_published().rows if row.source == "LLFlow README"]
    assert {row.method: row.results["lol_v1/test/rgb"][0] for row in rows} == held


def test_means_of_parts_of_sets_say_so(facts) -> None:
    keys = dict.fromkeys((*AVERAGES["3T"], *AVERAGES["5T"]))
    results = {key: Result(psnr=30.0, ssim=0.9) for key in keys}
    ours = [Row(kind="routed", method="ours", results=results)]
    partly = "cbsd68/noise50"  # which is in 3T and in the mean over noise, and not in 5T
    columns = [
        Column(key=key, title=f"A {key}", protocol="", num_images=2, is_whole=key != partly)
        for key in keys
    ]
    table = make_table(columns, ours, facts)
    whole = {column.key for column in table.columns if column.is_whole}
    assert {"3T", "5T", "cbsd68/noise"} - whole == {"3T", "cbsd68/noise"}
    head = tables_of(table)["sets.tex"].decode().splitlines()
    assert any("& 3T (part) & 5T & " in line and f"A {partly} (part)" in line for line in head)


def test_the_mean_over_seven_tasks_is_as_whole_as_what_its_means_are_made_of(facts) -> None:
    keys = [key for part in AVERAGES["7T"] for key in DERIVED.get(part, (part,))]
    results = {key: Result(psnr=30.0, ssim=0.9) for key in keys}
    for partly in (None, "live1/jpeg40"):
        columns = [
            Column(key=key, title="A b", protocol="", is_whole=key != partly) for key in keys
        ]
        table = make_table(columns, [Row(kind="routed", method="o", results=results)], facts)
        by_key = {column.key: column.is_whole for column in table.columns}
        assert by_key["7T"] is by_key["live1/jpeg"] is (partly is None)
        assert by_key["cbsd68/noise"]


def test_wrong_facts_are_named(tmp_path) -> None:
    path = tmp_path / "facts.yaml"
    row = PublishedRow(method="A", protocol="p", source="s", results={})
    path.write_text("protocols: {}\nrows: [{method: A, protocol: p, source: s, results: {}}]\n")
    with pytest.raises(ConfigError, match=f"{row.method} has the protocol 'p', which is none of"):
        read_published(path)
    path.write_text("protocols: {}\nrows: [{metod: A}]\n")
    with pytest.raises(ConfigError, match=r"did you mean 'rows\.0\.method'"):
        read_published(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_published(tmp_path / "none.yaml")
