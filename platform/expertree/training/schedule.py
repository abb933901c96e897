"""The schedule of rates: pure functions of how far a training is."""

import math


def rate_share(
    position: int, total: int, *, step: int = 1, warmup: int = 0, hold: int = 0, last: float = 0.0
) -> float:
    """Return the factor on the learning rates in the step that begins at a position.

    It rises linearly, then falls as half a cosine. Positions are counted in samples or in steps,
    all of them alike.

    Args:
        position: Samples or steps before this one.
        total: All of them.
        step: How many a step takes.
        warmup: Where the factor is 1; the first step has as much of it as its share of the way.
        hold: How long it stays 1 after that.
        last: The factor at the end.
    """
    if position < warmup:
        return (position + step) / (warmup + step)
    begin = warmup + hold
    progress = max(0, position - begin) / max(1, total - begin)
    return last + (1 - last) * (1 + math.cos(math.pi * progress)) / 2


def average_decay(most: float, num_steps: float) -> float:
    """Return the share of the old average of weights that the step after `num_steps` keeps.

    It is `most` in the end, and less at first: an average over a hundred steps would otherwise hold
    the initial weights for hundreds of them.
    """
    return min(most, (1 + num_steps) / (10 + num_steps))
