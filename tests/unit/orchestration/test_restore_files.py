"""How a batch is divided among the actors of a cluster."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from expertree.batch.listing import PhotoItem, make_item
from expertree.batch.restoring import BatchTask
from expertree.batch.settings import BatchConfig
from expertree.errors import ConfigError, ResourceError
from expertree.images.io import encode_png
from expertree.orchestration.restore_files import _blocks, _Worker, num_gpus_for


@pytest.mark.parametrize(
    ("num_files", "num_workers", "num_blocks"),
    [(1, 4, 1), (3, 4, 3), (40, 2, 8), (1000, 2, 32), (100_000, 8, 3125)],
)
def test_every_actor_gets_several_portions_and_none_a_large_one(
    num_files: int, num_workers: int, num_blocks: int
) -> None:
    items = tuple(
        PhotoItem(name=f"\udcff{i}.png", output=f"{i}.png", num_bytes=1, mtime_ns=2, num_pixels=3)
        for i in range(num_files)
    )
    blocks = _blocks(items, num_workers)
    assert len(blocks) == num_blocks
    rows = [row for block in blocks for row in block.column("item").to_pylist()]
    assert [PhotoItem(**json.loads(row)) for row in rows] == list(items)
    assert max(block.num_rows for block in blocks) <= 32


@pytest.mark.parametrize(
    ("device", "num_gpus", "expected"),
    [(None, 0, 0), (None, 4, 4), ("cpu", 4, 0), ("cpu", 0, 0), ("cuda", 4, 4)],
)
def test_the_device_decides_which_workers_a_cluster_starts(
    device: str | None, num_gpus: int, expected: int
) -> None:
    assert num_gpus_for(device, num_gpus) == expected


def test_a_device_that_a_cluster_cannot_give_is_refused() -> None:
    with pytest.raises(ResourceError, match="no GPU"):
        num_gpus_for("cuda", 0)
    for device in ("cuda:1", "mps"):
        with pytest.raises(ConfigError, match="cuda or cpu"):
            num_gpus_for(device, 4)


def test_a_worker_that_cannot_open_the_bundle_says_so_in_place_of_records(
    bundle_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((8, 8, 3), dtype=np.uint8)))
    (files,) = _blocks((make_item(tmp_path, Path("a.png")),), 1)
    broken = Path(shutil.copytree(bundle_path, tmp_path / "bundle"))
    next(broken.glob("experts/*/*.safetensors")).unlink()
    found = {}
    for name, bundle in (("whole", bundle_path), ("broken", broken)):
        config = BatchConfig(input="", output="", bundle=str(bundle), device="cpu")
        task = BatchTask(
            config=config, items=(), source=tmp_path, target=tmp_path / "out", has_manifest=True
        )
        worker = _Worker(task)
        (found[name],) = worker(files).to_pylist()
    assert json.loads(found["whole"]["record"])["state"] == "done"
    assert found["whole"]["problem"] == ""
    assert "is missing from the bundle" in found["broken"]["problem"]
