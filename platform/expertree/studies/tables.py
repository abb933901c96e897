"""The results of a study: rows stored by the hash of what made them, and tables of rows."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from expertree.config import fingerprint, to_dict
from expertree.storage import Storage

Cell: TypeAlias = str | int | float | None

NOT_MEASURED = "-"
_SPECIAL = "|"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table of a study.

    Attributes:
        title: Phrase that says what it shows.
        columns: Headings of the columns.
        rows: One value for each column; None is not measured.
        decimals: Decimals of numbers that are not whole.
        notes: Sentences below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    decimals: int = 3
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError unless every row has a value for each column."""
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table '{self.title}' has {len(self.columns)} columns, row {number} has "
                    f"{len(row)} values"
                )


class Rows:
    """The stored rows of a study, each of which is made at most once.

    Args:
        directory: Directory of the rows, `<hash>.json` each.
        say: Called with a line of text for each row that is made or found.
    """

    def __init__(self, directory: Storage, say: Callable[[str], None]) -> None:
        self._directory = directory
        self.say = say

    def row(
        self, name: str, spec: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return a row from storage, or make it now and store it.

        Args:
            name: Name that users see.
            spec: Everything that the row depends on, as plain data.
            make: Returns the row as plain data.
        """
        file = f"{fingerprint(spec)}.json"
        if self._directory.exists(file):
            self.say(f"{name}: found")
        else:
            self.say(f"{name}: ...")
            self._directory.write_json(file, {"spec": dict(spec), "row": dict(make())})
        return dict(self._directory.read_json(file)["row"])

    def place(self, spec: Mapping[str, Any]) -> Storage:
        """Return the directory of a row's own files, such as a network with its checkpoints."""
        return self._directory.sub(fingerprint(spec))


def write_tables(directory: Storage, name: str, tables: tuple[Table, ...]) -> str:
    """Write tables as `<name>.json` and `<name>.md`, and return the Markdown."""
    text = "\n\n".join(markdown(table) for table in tables) + "\n"
    directory.write_json(f"{name}.json", [to_dict(table) for table in tables])
    directory.write_bytes(f"{name}.md", text.encode())
    return text


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [f"**{table.title}**", "", _line(table.columns), _line(["---"] * len(table.columns))]
    lines += [_line([_words(cell, table.decimals) for cell in row]) for row in table.rows]
    if table.notes:
        lines += ["", *table.notes]
    return "\n".join(lines)


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace(_SPECIAL, f"\\{_SPECIAL}") for cell in cells) + " |"


def _words(cell: Cell, decimals: int) -> str:
    if cell is None:
        return NOT_MEASURED
    return f"{cell:.{decimals}f}" if isinstance(cell, float) else str(cell)
