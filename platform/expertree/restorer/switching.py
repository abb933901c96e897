"""One network that becomes the expert of any of several adapters, one at a time."""

import contextlib
import copy
import functools
import threading
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from expertree.experts.adapter import Adapter, merge

NUM_KEPT = 4
"""Adapters kept in memory, the last ones used. On the large networks each is a sixteenth of the
root's size at rank 8; reading one again costs little beside an image."""


class SwitchedNetwork:
    """A copy of the root's network that becomes one expert or another by merging its adapter in.

    It has memory of its own only for the tensors that adapters change, and shares the others with
    the root. So the root and all its adapters' experts need twice the root's memory and that of a
    few adapters, however many there are. A switch writes every changed tensor anew from the root's:
    an expert is the same to the bit whatever was there before it.
    """

    def __init__(
        self, root: nn.Module, changed: Iterable[str], read: Callable[[int], Adapter]
    ) -> None:
        """Copy the tensors that will change.

        Args:
            root: The root's network, in evaluation mode; it stays as it is, and must.
            changed: Names of the tensors that adapters change, the same for all of them.
            read: Function that returns the adapter of a node, on the root's device.
        """
        own = frozenset(changed)
        shared = {id(value): value for name, value in root.named_parameters() if name not in own}
        self._network = copy.deepcopy(root, shared)
        self._root, self._tensors = root.state_dict(), self._network.state_dict()
        self._read = functools.lru_cache(maxsize=NUM_KEPT)(read)
        self._lock = threading.Lock()
        self._node: int | None = None

    @contextlib.contextmanager
    def expert(self, node: int) -> Iterator[nn.Module]:
        """Give the network as one node's expert; it is nobody else's until the block ends.

        Raises:
            ArtefactError: If the adapter cannot be read.
        """
        with self._lock:
            if node != self._node:
                adapter = self._read(node)
                self._node = None  # nobody's, should the merge be interrupted
                with torch.inference_mode():  # in which the tensors may have been made
                    merge(self._root, adapter, into=self._tensors)
                self._node = node
            yield self._network
