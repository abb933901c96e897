"""The random order in which training passes over its patches."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np


def indices_at(positions: Iterable[int], *, num_patches: int, seed: int) -> list[int]:
    """Return the patches at some positions of a sequence of passes, each in its own random order.

    Args:
        positions: Positions in the sequence of all samples, from 0.
        num_patches: How many patches there are.
        seed: Seed of the permutations.
    """
    places = (divmod(position, num_patches) for position in positions)
    return [int(order_of_pass(num_patches, seed, turn)[place]) for turn, place in places]


@functools.lru_cache(maxsize=2)
def order_of_pass(num_patches: int, seed: int, turn: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order of one pass; cached, since it takes a second for ten million patches."""
    return np.random.default_rng([seed, turn]).permutation(num_patches)
