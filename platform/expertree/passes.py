"""Passes over things in random order, and which of them stands at a position."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np


def indices_at(positions: Iterable[int], *, num_patches: int, seed: int) -> list[int]:
    """The patches at some positions: each pass over the patches is a permutation of its own.

    Args:
        positions: Positions in the sequence of all samples, from 0.
        num_patches: How many patches there are.
        seed: Of the permutations.
    """
    places = (divmod(position, num_patches) for position in positions)
    return [int(order_of_pass(num_patches, seed, turn)[place]) for turn, place in places]


@functools.lru_cache(maxsize=2)
def order_of_pass(num_patches: int, seed: int, turn: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order of one pass; kept, as it takes a second for ten million patches."""
    return np.random.default_rng([seed, turn]).permutation(num_patches)
