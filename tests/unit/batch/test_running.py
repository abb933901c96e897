"""The run of a batch's work, beside a manifest that cannot always be written."""

from pathlib import Path

import pytest
from rich.console import Console

from expertree.batch.listing import PhotoItem
from expertree.batch.manifest import MANIFEST, BatchManifest, PhotoRecord, read_history
from expertree.batch.restoring import BatchTask
from expertree.batch.running import restore_task
from expertree.batch.settings import BatchConfig
from expertree.batch.view import BatchView
from expertree.errors import StorageError


def test_a_manifest_that_cannot_be_written_for_a_while_is_told_of_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, calls = BatchManifest.append, []

    def once_full(self: BatchManifest, record: PhotoRecord) -> None:
        calls.append(record.name)
        whole(self, record)
        if len(calls) == 1:
            raise StorageError("manifest.jsonl cannot be written: No space left on device")

    monkeypatch.setattr(BatchManifest, "append", once_full)
    names = ("a.png", "b.png")
    items = tuple(
        PhotoItem(name=name, output=name, num_bytes=1, mtime_ns=1, num_pixels=1) for name in names
    )
    config = BatchConfig(input=str(tmp_path), output=str(tmp_path))
    task = BatchTask(
        config=config, items=items, source=tmp_path, target=tmp_path, has_manifest=True
    )
    done = [
        PhotoRecord(
            state="done", name=name, num_bytes=1, mtime_ns=1, model="m", options="o", output=name
        )
        for name in names
    ]
    with (
        BatchManifest(tmp_path / MANIFEST) as manifest,
        BatchView(items, Console(stderr=True)) as view,
    ):
        records, _ = restore_task(task, lambda *_: iter(done), manifest, view)
    assert records == done
    assert "manifest.jsonl cannot be written: No space left" in capsys.readouterr().err
    assert len(read_history(tmp_path / MANIFEST).records) == 2
