import json

import pytest

from expertree.storage import Storage
from expertree.studies.tables import Rows, Table, markdown, write_tables


def test_a_row_is_made_once_by_its_spec_and_found_by_the_next_run(tmp_path) -> None:
    made, said = [], []

    def make() -> dict[str, int]:
        made.append(1)
        return {"value": len(made)}

    for _ in range(2):
        rows = Rows(Storage.open(tmp_path), said.append)
        assert rows.row("first", {"seed": 0}, make) == {"value": 1}
        assert rows.row("second", {"seed": 1}, make) == {"value": 2}
    assert said == ["first: ...", "second: ...", "first: found", "second: found"]


def test_a_row_that_failed_is_made_by_the_next_run(tmp_path) -> None:
    rows = Rows(Storage.open(tmp_path), lambda _: None)
    with pytest.raises(ZeroDivisionError):
        rows.row("it", {"seed": 0}, lambda: {"value": 1 // 0})
    assert rows.row("it", {"seed": 0}, lambda: {"value": 3}) == {"value": 3}


def test_a_table_is_written_as_markdown_and_as_data(tmp_path) -> None:
    table = Table(
        title="Gain",
        columns=("shape", "dB"),
        rows=(("a|b", 1.23456), ("c", None), ("d", 7)),
        decimals=2,
        notes=("Measured once.",),
    )
    text = write_tables(Storage.open(tmp_path), "gain", (table,))
    assert text == (tmp_path / "gain.md").read_text()
    assert text.splitlines() == [
        *("**Gain**", "", "| shape | dB |", "| --- | --- |"),
        *(r"| a\|b | 1.23 |", "| c | - |", "| d | 7 |", "", "Measured once."),
    ]
    assert json.loads((tmp_path / "gain.json").read_text())[0]["rows"][0] == ["a|b", 1.23456]
    assert markdown(table) + "\n" == text


def test_a_row_that_does_not_fit_the_head_is_refused() -> None:
    with pytest.raises(ValueError, match="'Gain' has 2 columns, row 1 has 1 values"):
        Table(title="Gain", columns=("shape", "dB"), rows=(("a", 1), ("b",)))
