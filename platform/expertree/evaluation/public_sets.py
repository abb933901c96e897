"""Tables of public sets: columns, rows of ours and of others, averages over columns."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from expertree.evaluation.published import Published, PublishedRow

Kind: TypeAlias = Literal["input", "classical", "routed", "told", "published"]

DERIVED: Mapping[str, tuple[str, ...]] = {
    "cbsd68/noise": ("cbsd68/noise15", "cbsd68/noise25", "cbsd68/noise50"),
    "live1/jpeg": ("live1/jpeg10", "live1/jpeg20", "live1/jpeg30", "live1/jpeg40"),
}
"""Columns that are means of others; a published row may have them without their parts."""

AVERAGES: Mapping[str, tuple[str, ...]] = {
    "3T": (
        "sots_outdoor/test/rgb16",
        "rain100l/test/rgb16",
        "cbsd68/noise15",
        "cbsd68/noise25",
        "cbsd68/noise50",
    ),
    "5T": (
        "sots_outdoor/test/rgb16",
        "rain100l/test/rgb16",
        "cbsd68/noise25",
        "gopro/test/rgb",
        "lol_v1/test/rgb16",
    ),
    "7T": (
        "rain100l/test/rgb16",
        "sots_outdoor/test/rgb16",
        "cbsd68/noise",
        "gopro/test/rgb",
        "lol_v1/test/rgb16",
        "snow100k/L/rgb",
        "live1/jpeg",
    ),
}
"""The averages that all-in-one papers use, and the columns that each is the mean of."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "All-in-one": tuple(
        dict.fromkeys((*AVERAGES, *(column for parts in AVERAGES.values() for column in parts)))
    ),
    "Noise": ("cbsd68/noise", "kodak24/", "mcmaster/", "urban100/"),
    "Real noise": ("sidd/", "cc15/", "nam/", "polyu/"),
    "JPEG": ("live1/", "classic5/"),
    "Rain": ("rain", "did/", "ddn/", "lhp_rain/", "outdoor_rain/"),
    "Haze": ("sots_",),
    "Low light": ("lol_",),
    "Blur": ("gopro/", "hide/", "realblur_"),
    "Snow": ("snow100k/", "realsnow/"),
    "Mixtures": ("cdd11/",),
}
"""Tables of the page, and the beginnings of their columns' keys."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One method's result on one column.

    Attributes:
        psnr: PSNR in dB.
        ssim: SSIM; None if not published.
        note: What more is to be said, such as the name of the classical method.
        mark: Letter of the difference between the result's protocol and the column's.
    """

    psnr: float
    ssim: float | None
    note: str = ""
    mark: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A set under a protocol, or a mean of such columns.

    Attributes:
        key: Its key; see `column_key`.
        title: Name for people.
        protocol: The rules in a clause.
        num_images: Number of images; 0 for a mean of columns or one that was not measured.
        is_whole: Whether the whole set was measured; of a mean, those of all its columns.
    """

    key: str
    title: str
    protocol: str
    num_images: int = 0
    is_whole: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A method, and its results by column.

    Attributes:
        kind: Kind of the row.
        method: Name for people.
        note: What it is, in a few words.
        parameters: Scalars in the model.
        active_parameters: Scalars of them that run for an image, where not all do.
        multiply_adds: Multiplications with addition for one image of 256 x 256 px.
        training_samples: Patches seen in training.
        source: Where the numbers stand, or what they were made with.
        results: Results by column.
    """

    kind: Kind
    method: str
    note: str = ""
    parameters: float | None = None
    active_parameters: float | None = None
    multiply_adds: float | None = None
    training_samples: float | None = None
    source: str = ""
    results: Mapping[str, Result]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """One table: a group's columns, and the rows that have any of them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SetsTable:
    """All columns and rows.

    Attributes:
        columns: Measured columns, then means of them.
        rows: Rows of ours, then published ones that have any of the columns.
        marks: What differs from a column's protocol, by letter.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    marks: Mapping[str, str]


def column_key(dataset: str, split: str, protocol: str) -> str:
    """Return the key of a column, such as `rain100l/test/y`; `cbsd68/noise25` says it in two."""
    return f"{dataset}/{split}" if protocol == split else f"{dataset}/{split}/{protocol}"


def make_table(columns: Sequence[Column], ours: Sequence[Row], published: Published) -> SetsTable:
    """Put rows of ours and of others together; averages are there only where all columns are.

    Args:
        columns: The measured columns.
        ours: Rows of ours, with results on some of these columns.
        published: What others published; rows that have none of the columns are left out.
    """
    letters: dict[str, str] = {}
    rows = [with_averages(row) for row in ours]
    rows += [with_averages(_row(row, published, letters)) for row in published.rows]
    measured = {column.key: column for column in columns}
    means = [
        Column(
            key=key,
            title=_title(key, measured),
            protocol=f"mean of {len(parts)} columns",
            is_whole=all(measured[part].is_whole for part in _behind(parts) if part in measured),
        )
        for key, parts in (*DERIVED.items(), *AVERAGES.items())
        if all(part in measured or part in DERIVED for part in parts)
        and any(key in row.results for row in rows[: len(ours)])
    ]
    shown = {*measured, *(column.key for column in means)}
    kept = [
        dataclasses.replace(row, results={k: v for k, v in row.results.items() if k in shown})
        for row in rows
    ]
    kept = [row for row in kept if row.results or row.kind != "published"]
    used = {result.mark for row in kept for result in row.results.values()}
    return SetsTable(
        columns=(*columns, *means),
        rows=tuple(kept),
        marks={letter: text for text, letter in letters.items() if letter in used},
    )


def grids(table: SetsTable) -> list[Grid]:
    """Return the tables of the page: a group of columns each, without groups that have none."""
    found = []
    for title, beginnings in GROUPS.items():
        columns = _of_group(table.columns, beginnings, exactly=title == "All-in-one")
        keys = {column.key for column in columns}
        rows = tuple(row for row in table.rows if keys & row.results.keys())
        if rows and (title != "All-in-one" or keys & AVERAGES.keys()):
            found.append(Grid(title=title, columns=columns, rows=rows))
    return found


def with_averages(row: Row) -> Row:
    """Return a row with those means of its columns whose columns it has, all of them."""
    results = dict(row.results)
    for key, parts in (*DERIVED.items(), *AVERAGES.items()):
        if key not in results and all(part in results for part in parts):
            results[key] = _mean([results[part] for part in parts])
    return dataclasses.replace(row, results=results)


def _of_group(
    columns: Sequence[Column], beginnings: Sequence[str], *, exactly: bool
) -> tuple[Column, ...]:
    if exactly:
        by_key = {column.key: column for column in columns}
        return tuple(by_key[key] for key in beginnings if key in by_key)
    return tuple(
        column
        for column in columns
        if column.key not in AVERAGES and column.key.startswith(tuple(beginnings))
    )


def _behind(parts: Sequence[str]) -> list[str]:
    """Return the columns that a mean is made of in the end, where some of its parts are means."""
    return [column for part in parts for column in DERIVED.get(part, (part,))]


def _mean(results: Sequence[Result]) -> Result:
    ssims = [result.ssim for result in results]
    known = [ssim for ssim in ssims if ssim is not None]
    marks = sorted({letter for result in results for letter in result.mark.split(",") if letter})
    return Result(
        psnr=sum(result.psnr for result in results) / len(results),
        ssim=sum(known) / len(known) if len(known) == len(ssims) else None,
        mark=",".join(marks),
    )


def _row(row: PublishedRow, published: Published, letters: dict[str, str]) -> Row:
    results = {}
    for column, (psnr, ssim) in row.results.items():
        text = published.difference(row, column)
        mark = letters.setdefault(text, _letter(len(letters))) if text else ""
        results[column] = Result(psnr=psnr, ssim=ssim, mark=mark)
    return Row(
        kind="published",
        method=row.method,
        note=row.setting,
        parameters=row.parameters,
        multiply_adds=row.multiply_adds,
        training_samples=row.training_samples,
        source=row.source,
        results=results,
    )


def _letter(number: int) -> str:
    return chr(ord("a") + number % 26) * (1 + number // 26)


def _title(key: str, measured: Mapping[str, Column]) -> str:
    if key in AVERAGES:
        return key
    name, what = measured[DERIVED[key][0]].title.split()[:2]
    return f"{name} {what}, mean"
