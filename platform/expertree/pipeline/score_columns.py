"""Reads the scores that were stored; apart from other tables, as data tasks must not load torch."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from expertree.evaluation import Scores
from expertree.pipeline.tables import read_table
from expertree.storage import Storage


def join_scores(parts: Sequence[Scores]) -> Scores:
    """Join the scores of one expert on several sets, one after the other."""
    names = [f.name for f in dataclasses.fields(Scores)]
    return Scores(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


MEASURES_FILE = "measures.parquet"


def read_measures(directories: Sequence[Storage]) -> Float32[np.ndarray, "patches measures"]:
    """Read the measures of several sets, one after the other, in the order of the patches' ids."""
    columns = [read_table(one, MEASURES_FILE)["measures"].combine_chunks() for one in directories]
    return np.concatenate(
        [
            column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
            for column in columns
        ]
    )


def read_scores(directory: Storage) -> Scores:
    """Read a column of scores, in the order of the patches' ids."""
    table = read_table(directory, "scores.parquet")
    return Scores(
        **{f.name: table[f.name].to_numpy().astype(np.float64) for f in dataclasses.fields(Scores)}
    )
