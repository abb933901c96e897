import pytest

from expertree.report import results_table
from expertree.report.schema import Run


@pytest.mark.parametrize("width", [80, 110, 170])
def test_the_results_fit_the_terminal(run: Run, width: int) -> None:
    lines = results_table(run, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_every_method_and_degradation_is_there_with_its_numbers(run: Run) -> None:
    text = results_table(run, width=170)
    for word in ("degraded", "root", "routed", "oracle", "low light", "JPEG", "mean"):
        assert word in text
    assert "24.91 / .8234" in text
    assert "28.8 k" in text
    assert "436 k" in text


def test_it_ends_with_the_gain_in_and_out_of_distribution(run: Run) -> None:
    first, second = results_table(run, width=100).splitlines()[-2:]
    assert first.startswith("routed over one network: +2.74 dB in distribution")
    assert second.startswith("routed over one network: +1.97 dB out of distribution")


def test_colour_is_only_there_when_asked_for(run: Run) -> None:
    assert "\x1b" not in results_table(run, width=100)
    assert "\x1b" in results_table(run, width=100, colour=True)


def test_a_run_without_results_prints_nothing() -> None:
    assert results_table({"title": "stopped early"}, width=80) == ""
