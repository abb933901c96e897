"""The parts of a training in which some weights of a network stand still, as papers have them."""

import math

from torch import nn

from expertree.experts.backbones import Phase, phases_of
from expertree.experts.recipe import ExpertJob, rate_share_at
from expertree.training import FlatParameters

_WARMUP_PART = 5
"""Part of a phase, a fifth, that its warm-up takes at most."""


def phase_at(job: ExpertJob, num_seen: int) -> tuple[int, range]:
    """Return the phase of the step after `num_seen` samples: its number, and its samples.

    What starts from another expert, whole or as an adapter, starts from a network that is through
    all phases: all of its training is the last.
    """
    phases = phases_of(job.backbone)
    if job.init is not None:
        return len(phases) - 1, range(job.num_samples)
    ends = [math.ceil(phase.until * job.num_samples) for phase in phases]
    number = next(number for number, end in enumerate(ends) if num_seen < end)
    return number, range(ends[number - 1] if number else 0, ends[number])


def rate_share_of(job: ExpertJob, num_seen: int) -> float:
    """Return the factor on the learning rates in the step after `num_seen` samples of a job.

    In each phase it rises and falls again, however short the phase is.
    """
    _, own = phase_at(job, num_seen)
    warmup = job.recipe.warmup_samples
    if len(own) < job.num_samples:
        warmup = min(warmup, len(own) // _WARMUP_PART)
    return rate_share_at(job.recipe, num_seen - own.start, len(own), warmup=warmup)


def still_spans(network: nn.Module, flat: FlatParameters, phase: Phase) -> list[slice]:
    """Return where the weights that a phase leaves alone lie in a network's vector."""
    names = [name for name, value in network.named_parameters() if value.requires_grad]
    found: list[slice] = []
    for name, (begin, end) in zip(names, flat.spans, strict=True):
        if not phase.still or not name.startswith(phase.still):
            continue
        if found and found[-1].stop == begin:
            found[-1] = slice(found[-1].start, end)
        else:
            found.append(slice(begin, end))
    return found
