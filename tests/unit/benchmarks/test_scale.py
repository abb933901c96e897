"""The steps of the benchmark of memory at many patches, on a few."""

from pathlib import Path

from expertree.benchmarks.scale import drive, make_table, start_lane
from expertree.storage import Storage


def test_driver_and_lane_do_their_steps_on_one_table(tmp_path: Path) -> None:
    store = Storage.open(tmp_path)
    written = make_table(store, 1200)
    assert len(written) == 3
    steps = drive(store, 1200, written, 400)
    assert list(steps) == ["plan", "commit", "cut", "labels", "hashes"]
    assert store.sub("table").is_done()
    store.sub("table").verify()
    assert set(start_lane(store)) == {"open", "batch"}
