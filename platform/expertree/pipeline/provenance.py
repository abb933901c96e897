"""Which source a result was made by."""

import subprocess
from pathlib import Path


def source_commit() -> str | None:
    """The commit of the source, if it lies in a git checkout; `-dirty` if that was changed."""
    here = Path(__file__).resolve().parent
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - git of the PATH
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
