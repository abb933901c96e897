"""What a network and the choice of one take: scalars, and multiply-adds for an image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from expertree.embedding import Extractor, look
from expertree.routing.measures import measure
from expertree.routing.router import Router


def size_of(network: nn.Module) -> int:
    """Return the scalars of a network, without the statistics that it keeps."""
    return sum(p.numel() for p in network.parameters())


def counted(call: Callable[[Tensor], object], side_px: int) -> int:
    """Return the multiply-adds of a call on an image with sides of that length."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(torch.zeros(1, 3, side_px, side_px))
    return int(counter.get_total_flops() // 2)


def to_choose(extractor: Extractor, router: Router, side_px: int) -> int:
    """Return the multiply-adds of embedding an image and of what routers measure in it."""
    found = to_look(extractor, ("embedding",), side_px)
    if router.shape.num_measures:
        view = extractor.config
        found += counted(lambda x: measure(x, view=view.view, side_px=view.view_px), side_px)
    return found


def to_look(extractor: Extractor, wanted: Sequence[str], side_px: int) -> int:
    """Return the multiply-adds of looking at an image for what a network is told."""
    return counted(lambda x: look(extractor, x, wanted), side_px) if wanted else 0
