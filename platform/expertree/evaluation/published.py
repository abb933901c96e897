"""The results that others published, as facts with sources; the file is docs/published.yaml."""

import dataclasses
import importlib.resources
from pathlib import Path
from typing import Any

import yaml

from expertree.config import load
from expertree.errors import ConfigError

FACTS = "published.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublishedProtocol:
    """The rules under which results were published, and how they depart from those here."""

    text: str
    """The rules, in a sentence."""

    differs: dict[str, str] = dataclasses.field(default_factory=dict)
    """What differs from the protocol of a column, by column; under `*` what does of all."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """One model's published results."""

    method: str
    """Name of the method."""

    setting: str = ""
    """What the one model was trained for, such as `3 tasks`; empty for one task."""

    parameters: float | None = None
    """Scalars in the model."""

    multiply_adds: float | None = None
    """Multiplications with addition for one image of 256 x 256 px."""

    training_samples: float | None = None
    """Patches seen in training."""

    protocol: str
    """Name of its protocol in the file."""

    source: str
    """Where the numbers stand."""

    results: dict[str, tuple[float, float | None]]
    """PSNR in dB and SSIM (None if not published) by column; see `public_sets.column_key`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The content of the file of facts."""

    protocols: dict[str, PublishedProtocol]
    """Protocols by name."""

    rows: tuple[PublishedRow, ...]
    """Rows in the order in which they are shown."""

    def difference(self, row: PublishedRow, column: str) -> str:
        """Return all that differs between a row's protocol and a column's; empty if nothing."""
        differs = self.protocols[row.protocol].differs
        return "; ".join(differs[key] for key in ("*", column) if key in differs)


def read_published(path: str | Path | None = None) -> Published:
    """Read a file of published results.

    Args:
        path: The file; by default the one that comes with the package.

    Raises:
        ConfigError: If it cannot be read, a key is unknown, or a row names no protocol of the file.
    """
    own = importlib.resources.files("expertree.evaluation").joinpath(FACTS)
    where = Path(path).expanduser() if path else own
    try:
        data: Any = yaml.safe_load(where.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"published results '{where}' cannot be read: {error}") from error
    published = load(Published, data)
    for row in published.rows:
        if row.protocol not in published.protocols:
            raise ConfigError(
                f"published results '{where}': {row.method} has the protocol '{row.protocol}', "
                f"which is none of {', '.join(published.protocols)}"
            )
    return published
