"""Finds the source commit that results are made with."""

import subprocess
from pathlib import Path


def source_commit() -> str | None:
    """Return the source's commit, with `-dirty` if changed; None outside of a git checkout."""
    here = Path(__file__).resolve().parent
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - git of the PATH
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
