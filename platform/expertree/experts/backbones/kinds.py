"""The kinds of degradation that networks with a classifier inside are taught to tell apart."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

KINDS = ("noise", "blur", "rain", "haze", "low_light", "snow", "jpeg")
"""InstructIR's classes, but for its sixth and seventh, super-resolution and retouching."""

ALIASES = {"motion_blur": "blur"}
"""Degradations that are taught as another one."""


def targets(
    tasks: Sequence[tuple[str, ...]], kinds: Sequence[str], like: Tensor
) -> tuple[Float[Tensor, "known kinds"], list[int]]:
    """Return the shares of kinds in samples, each an equal part, and which samples have some.

    Args:
        tasks: Degradations of each sample.
        kinds: The kinds to tell apart.
        like: A tensor of the wanted type on the wanted device.
    """
    rows, known = [], []
    for place, own in enumerate(tasks):
        named = {ALIASES.get(task, task) for task in own} & set(kinds)
        if named:
            rows.append([float(kind in named) / len(named) for kind in kinds])
            known.append(place)
    return like.new_tensor(rows).view(len(rows), len(kinds)), known
