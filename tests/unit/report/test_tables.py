import csv
import io

from expertree.report.schema import Run, Table
from expertree.report.tables import CSV_COLUMNS, clean_sentence, grid, tables_csv, tables_latex


def small_table() -> Table:
    return {
        "distribution": "in",
        "kind": "single",
        "columns": ["low_light", "average"],
        "quartile_bounds_db": [12.04, 16.0, 20.0],
        "rows": [
            {"method": "input", "psnr_rgb": [10.0, 10.0], "ssim": [0.5, 0.5], "harmed": [0.0, 0.0]},
            {
                "method": "best_level",
                "psnr_rgb": [30.0, 30.0],
                "ssim": [0.9, 0.9],
                "num_samples": 300,
            },
            {
                "method": "routed",
                "psnr_rgb": [25.126, None],
                "ssim": [0.81234, None],
                "harmed": [0.062, 0.034],
                "quartiles_db": [15.0, 18.25, 22.0, 28.0],
                "num_samples": 28_800,
                "num_parameters": 436_000,
                "multiply_adds_512": 9_870_000_000,
            },
        ],
    }


def test_limits_stand_last_and_are_never_the_best() -> None:
    drawn = grid(small_table())
    assert [line.method for line in drawn.lines] == ["input", "routed", "best_level"]
    assert [line.cells[0].is_best for line in drawn.lines] == [False, True, False]
    assert [line.is_bound for line in drawn.lines] == [False, False, True]


def test_a_line_says_what_the_method_was_given() -> None:
    drawn = grid(small_table())
    assert drawn.lines[1].given == ("28.8 k", "436 k", "9.87 G")
    assert drawn.lines[0].given == ("–", "–", "–")  # noqa: RUF001 - the sign of no value


def test_values_that_were_not_measured_show_a_dash() -> None:
    cell = grid(small_table()).lines[1].cells[1]
    assert (cell.psnr, cell.ssim) == ("–", "–")  # noqa: RUF001 - the sign of no value


def test_harm_is_shown_where_it_can_be_and_marked_above_a_twentieth() -> None:
    of_input, routed, limit = (line.cells for line in grid(small_table()).lines)
    assert of_input[0].harmed == ""
    assert [cell.harmed for cell in routed] == ["6.2 %", "3.4 %"]
    assert [cell.is_harmful for cell in routed] == [True, False]
    assert limit[0].harmed == "–"  # noqa: RUF001 - the sign of no value


def test_quarters_are_headed_by_the_inputs_quality() -> None:
    drawn = grid(small_table())
    assert drawn.quartiles == ("below 12.0", "12.0 to 16.0", "16.0 to 20.0", "above 20.0")
    assert drawn.lines[1].quartiles == ("15.00", "18.25", "22.00", "28.00")
    assert grid({**small_table(), "quartile_bounds_db": []}).quartiles == ()


def test_clean_images_are_said_in_a_sentence() -> None:
    some = {"num": 40, "left_as_is": 0.95, "least_psnr_db": 40.123, "mean_changed_db": 43.0}
    assert clean_sentence(some) == (
        "Of 40 clean images 95 % are left as they are; the others come out at 43.00 dB against the "
        "input, and at 40.12 at least."
    )
    every = {"num": 40, "left_as_is": 1.0, "least_psnr_db": None, "mean_changed_db": None}
    assert clean_sentence(every) == "Of 40 clean images 100 % are left as they are."


def test_csv_has_each_number_in_full_once(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(tables_csv(run))))
    assert tuple(rows[0]) == CSV_COLUMNS
    tables = run["tables"]
    assert len(rows) == sum(len(t["rows"]) * len(t["columns"]) for t in tables)
    number = 0
    for table in tables:
        for row in table["rows"]:
            for column, degradation in enumerate(table["columns"]):
                written = rows[number]
                number += 1
                assert written["method"] == row["method"]
                assert written["degradation"] == degradation
                assert float(written["psnr_rgb"]) == row["psnr_rgb"][column]
                assert float(written["ssim"]) == row["ssim"][column]
                assert float(written["harmed"]) == row["harmed"][column]
                assert written["num_samples"] == str(row["num_samples"] or "")


def test_latex_escapes_marks_the_best_and_has_as_many_cells_as_columns() -> None:
    table = small_table()
    table["columns"] = ["a_b & 50%", "average"]
    latex = tables_latex({"title": "x", "tables": [table]})
    assert r"a-b \& 50\%" in latex
    assert r"routed & \textbf{25.13} / 0.8123 & -- & 3.4 \% & 28.8 k" in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {6}
    assert latex.count(r"\midrule") == 2
    assert latex.isascii()


def test_a_run_without_tables_has_empty_ones() -> None:
    assert tables_csv({"title": "x"}).splitlines() == [",".join(CSV_COLUMNS)]
    assert "tabular" not in tables_latex({"title": "x"})
