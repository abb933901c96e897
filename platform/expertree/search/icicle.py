"""Where the groups of a tree lie in a small picture of it: rows are levels, widths samples."""

import dataclasses
from collections.abc import Sequence

from expertree.search.record import Node


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A node's place: from `left` to `right` of a picture that is 1 wide, in its level's row."""

    node: Node
    left: float
    right: float


def icicle(nodes: Sequence[Node]) -> list[Block]:
    """Lay a tree out; children fill their parent's width.

    Args:
        nodes: Parents before children.
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
