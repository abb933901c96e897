"""How a batch is divided among the actors of a cluster."""

import pytest

from expertree.batch.listing import Item
from expertree.orchestration.restore_files import _blocks


@pytest.mark.parametrize(
    ("num_files", "num_workers", "num_blocks"),
    [(1, 4, 1), (3, 4, 3), (40, 2, 8), (1000, 2, 32), (100_000, 8, 3125)],
)
def test_every_actor_gets_several_portions_and_none_a_large_one(
    num_files: int, num_workers: int, num_blocks: int
) -> None:
    items = tuple(
        Item(name=f"{i}.png", output=f"{i}.png", num_bytes=1, mtime_ns=2, num_pixels=3)
        for i in range(num_files)
    )
    blocks = _blocks(items, num_workers)
    assert len(blocks) == num_blocks
    names = [name for block in blocks for name in block.column("name").to_pylist()]
    assert names == [item.name for item in items]
    assert max(block.num_rows for block in blocks) <= 32
