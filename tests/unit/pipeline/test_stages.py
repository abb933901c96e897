"""Results are made at most once, and named by what made them."""

from pathlib import Path

import pytest

from expertree.errors import ArtefactError
from expertree.events import EventLog, read_events
from expertree.pipeline import stages
from expertree.pipeline.runner import LocalRunner, OnDone
from expertree.pipeline.stages import Workbench, check_whole, stage_key
from expertree.storage import Storage, Written, describe


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(
        store=Storage.open(tmp_path / "store"),
        events=EventLog(tmp_path / "events.jsonl"),
        runner=LocalRunner(),
        on_stage=lambda *_: None,
    )


def test_a_result_is_made_once_and_found_afterwards(bench: Workbench) -> None:
    calls = []

    def make(result: Storage, _: OnDone) -> None:
        calls.append(result)
        result.write_bytes("a.bin", b"1")

    first = bench.run("tree", {"groups": [1, 4]}, make)
    assert bench.run("tree", {"groups": [1, 4]}, make) == first
    assert len(calls) == 1
    assert first.done()["spec"] == {"groups": [1, 4]}
    assert [time.cached for time in bench.times] == [False, True]


def test_hashes_that_a_stage_gives_are_committed_and_other_files_are_read(
    bench: Workbench,
) -> None:
    def make(result: Storage, _: OnDone) -> Written:
        for name in ("a.bin", "b.bin"):
            result.write_bytes(name, b"1")
        written = {"a.bin": describe(b"1")}
        result.write_bytes("a.bin", b"2")  # the disk rots
        return written

    result = bench.run("shard", {}, make)
    with pytest.raises(ArtefactError, match=r"a\.bin has sha256"):
        check_whole(result)
    result.write_bytes("a.bin", b"1")
    check_whole(result)


def test_another_spec_is_another_result(bench: Workbench) -> None:
    assert bench.place("tree", {"groups": [1, 4]}) != bench.place("tree", {"groups": [1, 5]})


def test_a_new_version_of_a_stages_code_is_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_key("tree", {})
    monkeypatch.setattr(stages, "VERSIONS", {**stages.VERSIONS, "tree": 2})
    assert stage_key("tree", {}) != before


def test_a_stage_that_fails_is_not_done_and_goes_on_with_its_files(bench: Workbench) -> None:
    seen: list[list[str]] = []

    def make(result: Storage, _: OnDone) -> None:
        seen.append(result.list_files())
        result.write_bytes("half.bin", b"1")
        if len(seen) == 1:
            raise OSError("the power went")

    with pytest.raises(OSError, match="the power went"):
        bench.run("shard", {}, make)
    assert not bench.place("shard", {}).is_done()
    assert bench.run("shard", {}, make).is_done()
    assert seen == [[], ["half.bin"]]
    kinds = [event["event"] for event in read_events(bench.events.path)]
    assert kinds == ["stage_started", "stage_failed", "stage_started", "stage_done"]


def test_a_result_whose_file_changed_is_not_whole(bench: Workbench) -> None:
    result = bench.run("tree", {}, lambda result, _: result.write_bytes("a.bin", b"1"))
    check_whole(result)
    Path(result.path("a.bin")).write_bytes(b"2")
    with pytest.raises(ArtefactError, match=r"a\.bin has sha256"):
        check_whole(result)


def test_an_unfinished_result_is_not_whole(bench: Workbench) -> None:
    with pytest.raises(ArtefactError, match="is not finished"):
        check_whole(bench.place("tree", {}))
