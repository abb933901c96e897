"""Strict loading, fingerprints."""

import dataclasses
from typing import Annotated

import pytest

from expertree.config import (
    Named,
    all_keys,
    canonical_json,
    check_key,
    fingerprint,
    load,
    named_sections,
    open_sections,
    renamed_sections,
    to_dict,
)
from expertree.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 4)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    name: str = dataclasses.field(default="round", init=False)
    radius: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Square:
    name: str = dataclasses.field(default="square", init=False)
    side: float = 1.0
    corners: tuple[int, ...] = (0, 0)


SHAPES: Named[Round | Square] = Named(
    what="shape",
    presets={"round": Round(), "square": Square(), "wide": Square(side=9.0, corners=(1, 1))},
)
Shape = Annotated[Round | Square, SHAPES]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    shape: Shape = Round()
    frame: Shape | None = None
    more: tuple[Shape, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    drawing: Drawing = Drawing()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    name: str = "x"
    inner: Inner = Inner()
    extra: Inner | None = None
    rows: tuple[Inner, ...] = ()

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name must not be bad")


def test_load_fills_defaults_and_converts_lists_to_tuples() -> None:
    assert load(Outer, {"inner": {"sizes": [1, 2]}}) == Outer(inner=Inner(sizes=(1, 2)))


def test_unknown_key_is_named_with_its_path_and_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError, match=r"'inner\.rat'; did you mean 'inner\.rate'\?"):
        load(Outer, {"inner": {"rat": 1}})


def test_unknown_key_in_an_optional_section_is_found() -> None:
    with pytest.raises(ConfigError, match=r"extra\.sizs"):
        load(Outer, {"extra": {"sizs": [1]}})


def test_unknown_key_in_an_entry_of_a_list_is_found() -> None:
    assert load(Outer, {"rows": [{"rate": 1}, {}]}).rows == (Inner(rate=1.0), Inner())
    with pytest.raises(ConfigError, match=r"'rows\.1\.rat'; did you mean 'rows\.1\.rate'\?"):
        load(Outer, {"rows": [{"rate": 1}, {"rat": 1}]})


def test_wrong_type_is_named_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"'inner\.rate' = 'fast'"):
        load(Outer, {"inner": {"rate": "fast"}})


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"inner": {"rate": float("inf")}}, r"inner\.rate' = inf"),
        ({"rows": [{}, {"rate": "nan"}]}, r"rows\.1\.rate' = nan"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(data: dict[str, object], path: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{path} cannot be used: it is not finite"):
        load(Outer, data)


def test_a_rule_of_the_dataclass_becomes_a_config_error() -> None:
    with pytest.raises(ConfigError, match="name must not be bad"):
        load(Outer, {"name": "bad"})


def test_check_key_knows_nested_keys() -> None:
    check_key(Outer, "extra.rate")
    with pytest.raises(ConfigError, match=r"did you mean 'inner\.sizes'"):
        check_key(Outer, "inner.size")
    assert "inner" in set(all_keys(Outer))


def test_round_trip_through_plain_data() -> None:
    value = Outer(inner=Inner(rate=0.25))
    assert load(Outer, to_dict(value)) == value


def test_fingerprint_depends_on_content_only() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": (1, 2), "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint({})) == 20


def test_canonical_json_refuses_what_is_not_plain() -> None:
    with pytest.raises(TypeError, match="object is not plain data"):
        canonical_json({"a": object()})


def test_a_key_below_a_section_that_is_null_opens_it() -> None:
    data = to_dict(Outer())
    open_sections(Outer, data, "extra.rate")
    assert data["extra"] == {"rate": 0.5, "sizes": [1, 4]}
    for path in ("extra", "inner.rate", "name"):
        before = to_dict(Outer())
        open_sections(Outer, before, path)
        assert before == to_dict(Outer())


def test_a_named_section_is_a_preset_and_what_differs_from_it() -> None:
    shape = {"name": "wide", "side": 2}
    page = load(Page, {"drawing": {"shape": shape, "frame": shape, "more": [{}, shape]}})
    wide = Square(side=2.0, corners=(1, 1))
    assert page.drawing == Drawing(shape=wide, frame=wide, more=(Round(), wide))
    assert load(Page, to_dict(page)) == page


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        (
            {"shape": {"side": 1}},
            r"'drawing\.shape'.*shape 'round' has no 'side'; known .*: radius",
        ),
        ({"frame": {"name": "wide", "sides": 1}}, r"'drawing\.frame'.*did you mean 'side'\?"),
        ({"more": [{"name": "squar"}]}, r"'drawing\.more\.0'.*'squar'; did you mean 'square'\?"),
        ({"more": [{"radius": "big"}]}, r"'drawing\.more\.0\.radius' = 'big'"),
    ],
)
def test_what_a_named_section_does_not_have_is_refused(
    drawing: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(Page, {"drawing": drawing})


def test_keys_of_a_named_section_wait_for_its_name() -> None:
    for key in ("radius", "side", "name", "sid"):
        check_key(Page, f"drawing.shape.{key}")
    with pytest.raises(ConfigError, match=r"did you mean 'drawing\.shape\.side'"):
        check_key(Page, "drawing.shap.side")
    assert dict(named_sections(Page)) == {"drawing.shape": SHAPES, "drawing.frame": SHAPES}
    keys = ["drawing.shape.side", "drawing.frame.name"]
    assert renamed_sections(Page, keys) == ["drawing.frame"]


def test_a_named_section_is_short_as_its_nearest_preset() -> None:
    assert SHAPES.shorten(to_dict(Round())) == {"name": "round"}
    assert SHAPES.shorten(to_dict(Square(side=3.0))) == {"name": "square", "side": 3.0}
    assert SHAPES.shorten(to_dict(Square(side=3.0, corners=(1, 1)))) == {
        "name": "wide",
        "side": 3.0,
    }
