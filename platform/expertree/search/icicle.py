"""Lays out a tree as a small picture: a row for each level, widths by number of samples."""

import dataclasses
from collections.abc import Sequence

from expertree.search.record import Node


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The place of a node: `left` to `right` in its level's row, in a picture that is 1 wide."""

    node: Node
    left: float
    right: float


def icicle(nodes: Sequence[Node]) -> list[Block]:
    """Lay a tree out; children fill their parent's width.

    Args:
        nodes: Nodes of the tree, parents before children.
    """
    blocks: dict[int | None, Block] = {}
    next_left: dict[int | None, float] = {None: 0.0}
    for node in nodes:
        parent = node["parent"]
        above = blocks.get(parent)
        width = 1.0 if above is None else above.right - above.left
        siblings = sum(other["num_samples"] for other in nodes if other["parent"] == parent)
        left = next_left[parent]
        right = left + width * node["num_samples"] / max(siblings, 1)
        blocks[node["index"]] = Block(node=node, left=left, right=right)
        next_left[parent], next_left[node["index"]] = right, left
    return list(blocks.values())
