import math

import pytest

from expertree.report import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (980, "980"),
        (9_600, "9.60 k"),
        (28_800, "28.8 k"),
        (436_000, "436 k"),
        (999_600, "1.00 M"),
        (9_870_000_000, "9.87 G"),
        (2e15, "2000 T"),
        (None, "\N{EN DASH}"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_counts_keep_three_digits(value: float | None, text: str) -> None:
    assert formatting.count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (792.4, "13 min 12 s"),
        (7500, "2 h 05 min"),
        (100_000, "1 d 03 h"),
        (None, "\N{EN DASH}"),
    ],
)
def test_durations_show_their_two_largest_units(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_differences_have_a_sign_and_a_true_minus() -> None:
    assert formatting.gain(1.234) == "+1.23"
    assert formatting.gain(-0.4) == "\N{MINUS SIGN}0.40"
    assert formatting.gain(None) == "\N{EN DASH}"


def test_small_shares_keep_a_digit() -> None:
    assert [formatting.percent(share) for share in (0.0, 0.004, 0.5, 1.0)] == [
        "0 %",
        "0.4 %",
        "50 %",
        "100 %",
    ]


def test_identifiers_become_words() -> None:
    assert formatting.name("low_light") == "low-light"
    assert formatting.name("jpeg") == "JPEG"
    assert formatting.name("noise + jpeg + low_light") == "noise + JPEG + low-light"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert formatting.shortened("medium rain, thick haze", 13) == "medium rain…"
    assert formatting.shortened("haze", 4) == "haze"
