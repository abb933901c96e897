import pytest

from expertree.evaluation import METHODS
from expertree.report import results_table
from expertree.report.schema import Run


@pytest.mark.parametrize("width", [80, 100, 120, 170])
def test_the_results_fit_the_terminal(run: Run, width: int) -> None:
    lines = results_table(run, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_every_method_and_degradation_is_there_with_its_numbers(run: Run) -> None:
    text = results_table(run, width=170)
    for method in METHODS.values():
        assert method.short in text
    for word in ("low light", "JPEG", "mean", "SSIM", "harm"):
        assert word in text
    (routed,) = (line for line in text.splitlines()[:20] if line.startswith("routed"))
    assert routed.split()[1:10] == [
        *("23.60", "24.90", "27.20", "26.00", "24.90", "21.20", "26.60", "24.91"),
        ".8234",
    ]
    assert "3.7%" in routed
    assert "28.8 k" in text
    assert "436 k" in text


def test_it_ends_with_the_gain_in_and_out_of_distribution(run: Run) -> None:
    first, second, clean = results_table(run, width=120).splitlines()[-3:]
    over = "routed over one network, samples of the whole tree"
    assert first.startswith(f"{over}: +2.05 dB in distribution")
    assert second.startswith(f"{over}: +1.48 dB out of distribution")
    assert clean.startswith("Of 80 clean images 95 % are left as they are; the others")
    del run["clean"]
    assert results_table(run, width=120).splitlines()[-1] == second


def test_colour_is_only_there_when_asked_for(run: Run) -> None:
    assert "\x1b" not in results_table(run, width=100)
    assert "\x1b" in results_table(run, width=100, colour=True)


def test_a_run_without_results_prints_nothing() -> None:
    assert results_table({"title": "stopped early"}, width=80) == ""
