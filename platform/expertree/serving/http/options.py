"""Read the options of a request, check them against the model, and name those that are wrong."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from expertree.errors import OptionError
from expertree.images.containers import PHOTO_FORMATS, PhotoFormat
from expertree.routing import AUTOMATIC, TilePx, Wish
from expertree.routing.guide import CONFIDENCES
from expertree.routing.instructions import ReadText, read_instruction
from expertree.serving.engine import Model
from expertree.serving.http.problems import ProblemError
from expertree.serving.settings import Limits

T = TypeVar("T")

MIN_TILE_PX = 64
"""Smallest tile that may be asked for."""

MAX_TEXT = 300
"""Most letters of an instruction."""

_NO_TEXT = (
    "{!r} is more than names, and free text is not set up on this endpoint (the extra 'text' and a "
    "text_model)."
)

_WHOLE = re.compile(r"[0-9]{1,6}")
_DECIMAL = re.compile(r"-?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")

_SPELLINGS: Mapping[str, PhotoFormat] = {
    **{name: name for name in PHOTO_FORMATS},
    "jpg": "jpeg",
    "tif": "tiff",
    "heif": "heic",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RequestOptions:
    """The values of a request's options.

    Attributes:
        wish: What is wanted of the choice and of the work.
        format: Format of the answer's file; None for what `Accept` says, or else the photograph's.
        other_formats: Formats that the caller takes too, if `format` cannot hold the photograph.
        quality: Quality of lossy formats, 1 to 100.
        explain: Whether the answer says why the expert was chosen.
    """

    wish: Wish = AUTOMATIC
    format: PhotoFormat | None = None
    other_formats: tuple[PhotoFormat, ...] = ()
    quality: int | None = None
    explain: bool = False


NAMES = (
    *("instruction", "confidence", "level", "expert", "insist", "strength", "tile"),
    *("format", "quality", "explain"),
)
"""Names of all options."""

ROUTE_NAMES = ("instruction", "confidence", "level", "expert", "insist", "explain")
"""Names of the options that mean something where nothing is restored."""


def read_options(
    given: Iterable[tuple[str, str]],
    model: Model,
    limits: Limits,
    *,
    names: tuple[str, ...] = NAMES,
    read_text: ReadText | None = None,
) -> RequestOptions:
    """Read options and check them against the model.

    Args:
        given: Names and values in order; `instruction` perhaps several times.
        model: The model that serves.
        limits: Limits on tiles.
        names: Names of the options that may be given.
        read_text: Reader of free text; without it an instruction is made of the model's names,
            unless the model itself takes sentences.

    Raises:
        ProblemError: If an option is unknown, given twice, or wrong; names it.
    """
    values = _by_name(given, names)
    single = {name: own[0] for name, own in values.items()}
    instruction, words = _instruction(values.get("instruction", []), model, read_text)
    if "level" in single and "confidence" in single:
        raise _wrong("level", "Level and confidence both pick the level; give one.")
    return RequestOptions(
        wish=Wish(
            level=_get(single, "level", lambda text: _level(text, model), None),
            expert=_get(single, "expert", lambda text: _expert(text, model), None),
            instruction=instruction,
            words=words,
            confidence=_get(single, "confidence", _confidence, None),
            insist=_get(single, "insist", _flag, default=False),
            strength=_get(single, "strength", _strength, AUTOMATIC.strength),
            tile_px=_get(single, "tile", lambda text: _tile(text, limits), AUTOMATIC.tile_px),
        ),
        format=_get(single, "format", _format, None),
        quality=_get(single, "quality", _quality, None),
        explain=_get(single, "explain", _flag, default=False),
    )


def _by_name(given: Iterable[tuple[str, str]], names: tuple[str, ...]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in given:
        if name not in names:
            nearest = difflib.get_close_matches(name[:40], names, n=1, cutoff=0.5)
            hint = f"Did you mean '{nearest[0]}'?" if nearest else f"There are {', '.join(names)}."
            raise _wrong(name[:40], f"There is no option '{name[:40]}' here. {hint}")
        values.setdefault(name, []).append(value)
        if len(values[name]) > 1 and name != "instruction":
            raise _wrong(name, f"Option '{name}' is given more than once.")
    return values


def _get(single: Mapping[str, str], name: str, read: Callable[[str], T], default: T) -> T:
    """Return one option's value, or the default; an error names the option."""
    if name not in single:
        return default
    try:
        return read(single[name].strip())
    except ValueError as error:
        raise _wrong(name, str(error)) from error


def _number(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"Expected a whole number, got {text[:40]!r}.")
    return int(text)


def _level(text: str, model: Model) -> int:
    level = _number(text)
    if level >= len(model.groups):
        raise ValueError(f"The model has levels 0 to {len(model.groups) - 1}, not {level}.")
    return level


def _expert(text: str, model: Model) -> int:
    expert, known = _number(text), [own.node for own in model.experts]
    if expert not in known:
        raise ValueError(f"There is no expert {expert}; there are {', '.join(map(str, known))}.")
    return expert


def _confidence(text: str) -> int:
    confidence = _number(text)
    if confidence not in CONFIDENCES:
        raise ValueError(f"Confidence is 0, 1 or 2, not {confidence}.")
    return confidence


def _strength(text: str) -> float:
    if not _DECIMAL.fullmatch(text) or not 0.0 <= float(text) <= 1.0:
        raise ValueError(f"Strength is a number from 0 to 1, such as 0.4, not {text[:40]!r}.")
    return float(text)


def _tile(text: str, limits: Limits) -> TilePx:
    if text == "auto":
        return "auto"
    tile_px = _number(text)
    if tile_px != 0 and not MIN_TILE_PX <= tile_px <= limits.max_tile_px:
        raise ValueError(
            f"A tile is auto, 0 for the whole image at once, or {MIN_TILE_PX} to "
            f"{limits.max_tile_px} pixels, not {tile_px}."
        )
    return tile_px


def _format(text: str) -> PhotoFormat:
    if text.lower() not in _SPELLINGS:
        raise ValueError(f"There is no format {text[:40]!r}; choose {', '.join(PHOTO_FORMATS)}.")
    return _SPELLINGS[text.lower()]


def _quality(text: str) -> int:
    quality = _number(text)
    if not 1 <= quality <= 100:
        raise ValueError(f"Quality is 1 to 100, not {quality}.")
    return quality


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise ValueError(f"Expected true or false, got {text[:40]!r}.")
    return text.lower() in {"true", "1"}


def _instruction(
    values: Iterable[str], model: Model, read_text: ReadText | None
) -> tuple[tuple[str, ...], str]:
    """Return the names that instructions mean, and their words where they are more than names.

    Words that cannot be read here reach a model that takes sentences all the same.
    """
    names, given = model.names, list(values)
    for value in given:
        if len(value) > MAX_TEXT:
            raise _wrong("instruction", f"An instruction has at most {MAX_TEXT} letters.")
        if not value.strip(" ,"):
            raise _wrong("instruction", f"The instruction is empty; name {_listed(names)}.")
    text = ", ".join(value.strip() for value in given)
    try:
        return read_instruction(text, names, read_text)
    except OptionError as error:
        if model.takes_sentences:
            return (), text
        why = _NO_TEXT.format(text[:80]) if read_text is None else str(error)
        raise _wrong("instruction", f"{why} Name {_listed(names)}.") from error


def _listed(names: tuple[str, ...]) -> str:
    return f"one or more of: {', '.join(names)}"


def _wrong(option: str, detail: str) -> ProblemError:
    return ProblemError("bad-option", detail, option=option)
