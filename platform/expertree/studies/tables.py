"""What a study finds: rows stored by the hash of what made them, and tables of them."""

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
        title: What it shows, in a phrase.
        columns: Their headings.
        rows: One value for each column; None is not measured.
        decimals: Of numbers that are not whole.
        notes: Sentences below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    decimals: int = 3
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a row of another length than the head."""
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table '{self.title}' has {len(self.columns)} columns, row {number} has "
                    f"{len(row)} values"
                )


class Rows:
    """The rows of a study on storage: each is made at most once, whoever asks again.

    Args:
        directory: Where they are kept, `<hash>.json` each.
        say: Told of each row as it is made or found, in words.
    """

    def __init__(self, directory: Storage, say: Callable[[str], None]) -> None:
        """See the class."""
        self._directory = directory
        self.say = say

    def row(
        self, name: str, spec: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """One row: from storage, or made now and kept.

        Args:
            name: What the user calls it.
            spec: Everything that it depends on, as plain data.
            make: Makes it, as plain data.
        """
        file = f"{fingerprint(spec)}.json"
        if self._directory.exists(file):
            self.say(f"{name}: found")
        else:
            self.say(f"{name}: ...")
            self._directory.write_json(file, {"spec": dict(spec), "row": dict(make())})
        return dict(self._directory.read_json(file)["row"])

    def place(self, spec: Mapping[str, Any]) -> Storage:
        """Where what belongs to a row is kept, such as a network with its checkpoints."""
        return self._directory.sub(fingerprint(spec))


def write_tables(directory: Storage, name: str, tables: tuple[Table, ...]) -> str:
    """Write tables as `<name>.json` and `<name>.md`; gives the Markdown."""
    text = "\n\n".join(markdown(table) for table in tables) + "\n"
    directory.write_json(f"{name}.json", [to_dict(table) for table in tables])
    directory.write_bytes(f"{name}.md", text.encode())
    return text


def markdown(table: Table) -> str:
    """A table as Markdown."""
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
