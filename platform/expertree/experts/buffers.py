"""What a network keeps beside its weights, where several workers train it together."""

import contextlib
from collections.abc import Iterator

from torch import nn

from expertree.experts.backbones import Joined
from expertree.training import Workers


@contextlib.contextmanager
def common_buffers(network: nn.Module, workers: Workers) -> Iterator[None]:
    """Make a network's buffers the same in all workers, after each has been through its samples.

    They are averaged, but for those that a part of the network joins by itself.

    Args:
        network: The network, which goes through this worker's samples in the context.
        workers: This process among all.
    """
    if workers.count == 1:
        yield
        return
    parts = [part for part in network.modules() if isinstance(part, Joined)]
    before = [{name: part.get_buffer(name).clone() for name in part.joined} for part in parts]
    yield
    own = {id(part.get_buffer(name)) for part in parts for name in part.joined}
    for buffer in network.buffers():
        if buffer.is_floating_point() and id(buffer) not in own:
            workers.sum_(buffer)
            buffer.div_(workers.count)
    for part, theirs in zip(parts, before, strict=True):
        part.join(theirs, workers.rows_of_all)
