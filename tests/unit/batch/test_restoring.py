"""What is in memory at once: small photographs overlap, panoramas are done one after another."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree.batch import restoring
from expertree.batch.listing import PhotoItem, list_photographs
from expertree.batch.restoring import BatchTask, restore_files
from expertree.batch.settings import BatchConfig, RestoreOptions
from expertree.restorer import Restorer
from expertree.routing import Wish


def item(num_pixels: int) -> PhotoItem:
    return PhotoItem(name="a", output="a", num_bytes=1, mtime_ns=0, num_pixels=num_pixels)


def test_photographs_are_read_ahead_as_far_as_memory_suffices() -> None:
    assert restoring._has_room([], item(10**9))
    assert restoring._has_room([24_000_000], item(24_000_000))
    assert not restoring._has_room([24_000_000] * 2, item(24_000_000))
    assert not restoring._has_room([24_000_000], item(100_000_000))


@pytest.mark.parametrize("limit", [0, 10**9])
def test_a_panorama_is_written_before_the_next_one_is_restored(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    rng, happened = np.random.default_rng(0), []
    for name in "abc":
        pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        PillowImage.fromarray(pixels).save(tmp_path / f"{name}.png")
    write = restoring.write_restored

    def written(*given: object) -> bytes:
        data = write(*given)
        happened.append("written")
        return data

    restore = restoring.restore_photo

    def restored(*given: object) -> object:
        happened.append("restore")
        return restore(*given)

    monkeypatch.setattr(restoring, "_MAX_PIXELS_BESIDE", limit)
    monkeypatch.setattr(restoring, "write_restored", written)
    monkeypatch.setattr(restoring, "restore_photo", restored)
    target = tmp_path / "out"
    options = RestoreOptions(wish=Wish(expert=0))
    task = BatchTask(
        config=BatchConfig(input=str(tmp_path), output=str(target), options=options),
        items=list_photographs(tmp_path, recursive=False).items,
        source=tmp_path,
        target=target,
        has_manifest=False,
    )
    records = list(restore_files(Restorer.load(bundle_path), task))
    assert [(record.name, record.state) for record in records] == [
        ("a.png", "done"),
        ("b.png", "done"),
        ("c.png", "done"),
    ]
    assert sorted(happened) == ["restore"] * 3 + ["written"] * 3
    if limit == 0:
        assert happened == ["restore", "written"] * 3
