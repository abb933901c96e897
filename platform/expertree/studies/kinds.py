"""The kinds of patches that studies average over apart: of one degradation, and of several."""

from typing import Any

import numpy as np

from expertree.pipeline.earlier_build import ScoredSet

KINDS = ("single", "mixed")


def rows_of_kinds(data: ScoredSet) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the rows of each kind, in the order of `KINDS`; without kinds that no patch has."""
    rows = {"single": np.flatnonzero(~data.is_mixed), "mixed": np.flatnonzero(data.is_mixed)}
    return {kind: rows[kind] for kind in KINDS if len(rows[kind])}
