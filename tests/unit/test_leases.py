"""Of two jobs on one store, one makes a result; who holds it is judged by signs of life."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from expertree import leases, owners
from expertree.errors import HeldError, StorageError, TakenOverError
from expertree.leases import Lease, Watch, lease_of, release, take
from expertree.owners import Keeper, Owner, keep, owner_of
from expertree.pipeline.claim import claimed
from expertree.pipeline.held import make_held
from expertree.process import Process
from expertree.storage import Storage


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life every 50 ms, and half a second without one is long."""
    monkeypatch.setattr(owners, "BEAT_S", 0.05)
    monkeypatch.setattr(owners, "LOOK_S", 0.05)
    monkeypatch.setattr(owners, "SILENT_S", 0.5)
    monkeypatch.setattr("expertree.pipeline.held.WAIT_S", 0.05)


@contextmanager
def far(store: Storage, name: str | None = None) -> Iterator[Keeper]:
    """A job of another machine, whose process cannot be asked."""
    with keep(store, what=f"runs/{name}", name=name) as keeper:
        process = dataclasses.replace(Process.here(), machine="another", host="far")
        keeper.owner = dataclasses.replace(keeper.owner, process=process)
        keeper.give_sign()
        yield keeper


def result_in(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path / "store").sub("expert", "abc")


def took(result: Storage, owner: Owner) -> Lease:
    return take(lease_of(result), owner, what=result.where())


def test_a_living_job_keeps_what_it_holds_and_is_named(tmp_path: Path) -> None:
    result, store = result_in(tmp_path), Storage.open(tmp_path / "store")
    with far(store, "mine") as mine, keep(store, what="runs/other") as other:
        lease = took(result, mine.owner)
        with pytest.raises(
            HeldError, match=r"abc is being made by the job that makes runs/mine \("
        ):
            took(result, other.owner)
        assert lease.is_held()
        release(lease, result)
        assert took(result, other.owner).number == 2


def test_a_result_that_is_done_needs_no_lease_any_more(tmp_path: Path) -> None:
    result = result_in(tmp_path)
    with keep(Storage.open(tmp_path / "store"), what="runs/mine") as mine:
        lease = took(result, mine.owner)
        result.write_bytes("a", b"")
        result.commit({})
        release(lease, result)
    assert result.done()["files"].keys() == {"a"}
    assert lease_of(result).list_files() == []


def test_what_a_job_held_is_free_when_it_ends(tmp_path: Path) -> None:
    result, store = result_in(tmp_path), Storage.open(tmp_path / "store")
    with far(store) as mine:
        took(result, mine.owner)
    with keep(store, what="runs/other") as other:
        took(result, other.owner)


def test_a_job_without_signs_of_life_loses_what_it_holds(tmp_path: Path) -> None:
    result, store = result_in(tmp_path), Storage.open(tmp_path / "store")
    with far(store) as mine:
        lease = took(result, mine.owner)
        sign = store.sub("owners").read_bytes(mine.owner.file)
    store.sub("owners").write_bytes(mine.owner.file, sign)  # as if it had been killed
    owners._alive_until_s.clear()
    with keep(store, what="runs/other") as other:
        begin = time.monotonic()
        took(result, other.owner)
        assert time.monotonic() - begin >= 0.5
        begin = time.monotonic()  # of what else it held, nobody waits for a sign once more
        assert not owners.is_alive(mine.owner)
        assert time.monotonic() - begin < 0.4
    assert not lease.is_held()


def test_a_storage_that_is_away_is_no_silence_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Storage.open(tmp_path / "store")
    with far(store) as mine:
        signs = [{**mine.owner.record(), "sign": n} for n in (1, 1, 1, 2)]

    def slow_sign(_: Owner) -> object:
        time.sleep(0.15)  # three looks last longer than `SILENT_S`
        return signs.pop(0)

    monkeypatch.setattr(owners, "SILENT_S", 0.35)
    monkeypatch.setattr(owners, "_sign_of", slow_sign)
    assert owners.is_alive(mine.owner)


def test_of_many_that_take_over_at_once_one_does(tmp_path: Path) -> None:
    result, store = result_in(tmp_path), Storage.open(tmp_path / "store")
    with far(store) as gone:
        took(result, gone.owner)

    def take_it(owner: Owner) -> bool:
        try:
            took(result, owner)
        except HeldError:
            return False
        return True

    with (
        keep(store, what="a") as a,
        far(store) as b,
        far(store) as c,
        ThreadPoolExecutor(3) as pool,
    ):
        assert sum(pool.map(take_it, [keeper.owner for keeper in (a, b, c)])) == 1


def test_a_later_start_of_the_same_job_takes_over_and_the_earlier_one_is_told(
    tmp_path: Path,
) -> None:
    result, store = result_in(tmp_path), Storage.open(tmp_path / "store")
    with far(store, "nightly") as first:
        lease = took(result, first.owner)
        first.check()
        with far(store, "nightly") as second:
            assert second.owner.number == 2
            took(result, second.owner)
            first.give_sign()
            with pytest.raises(TakenOverError, match="another start of 'nightly' has taken over"):
                first.check()
            second.give_sign()
            second.check()
            with pytest.raises(HeldError):
                took(result, first.owner)
            assert not lease.is_held()


def test_a_lane_that_lost_its_lease_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "CHECK_S", 0.0)
    monkeypatch.setattr(owners, "BEAT_S", 1000.0)  # a sign that is deleted is not given again
    result, store = result_in(tmp_path), Storage.open(tmp_path / "store")
    with far(store) as mine, keep(store, what="runs/other") as other:
        watch = Watch(took(result, mine.owner))
        watch.check()
        mine.owner.signs.delete(mine.owner.file)
        took(result, other.owner)
        with pytest.raises(HeldError, match="taken over"):
            watch.check()


HOLDS = """
import sys, time
from expertree.leases import lease_of, take
from expertree.owners import keep
from expertree.storage import Storage
store = Storage.open(sys.argv[1])
with keep(store, what="runs/other") as keeper:
    take(lease_of(store.sub("expert", "abc")), keeper.owner, what="abc")
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_process_that_was_killed_here_holds_nothing_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "SILENT_S", 1000.0)
    monkeypatch.setattr(owners, "LOOK_S", 1000.0)
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "store")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with keep(Storage.open(tmp_path / "store"), what="runs/mine") as mine:
        took(result_in(tmp_path), mine.owner)


def test_a_number_that_was_given_to_another_process_is_another_process() -> None:
    here = Process.here()
    assert not here.is_gone
    assert dataclasses.replace(here, start="long ago").is_gone
    assert not dataclasses.replace(here, machine="another", start="long ago").is_gone
    assert os.getpid() == here.pid


def test_two_that_make_the_same_results_make_each_once(tmp_path: Path) -> None:
    store, made, said = Storage.open(tmp_path / "store"), [], []
    results = {n: store.sub("expert", str(n)) for n in range(3)}

    def job(who: str, pause_s: float) -> None:
        def make(mine: dict[int, Storage]) -> None:
            for n, result in mine.items():
                made.append(n)
                time.sleep(pause_s)
                result.write_bytes("a", who.encode())
                result.commit({})

        with far(store, who) as keeper:
            make_held(results, keeper.owner, make, said.append)

    first = threading.Thread(target=job, args=("one", 0.3))
    first.start()
    while not made:
        time.sleep(0.01)
    job("two", 0.3)
    first.join()
    assert sorted(made) == [0, 1, 2]
    assert all(result.is_done() for result in results.values())
    assert "is being made by the job that makes runs/one" in said[0]


def test_an_output_that_somebody_writes_is_refused_in_a_sentence(tmp_path: Path) -> None:
    output, store = Storage.open(tmp_path / "out"), Storage.open(tmp_path / "store")
    refusal = r"output=.*out is taken: .* give another output"
    with claimed(output, store, name="a"):
        for place in (store, Storage.open(tmp_path / "another store")):
            with pytest.raises(HeldError, match=refusal), claimed(output, place, name="b"):
                pass
        with claimed(output, store, name="a"):  # a later start of the same job
            pass
    with claimed(output, store, name="b"):
        pass


def test_a_job_whose_sign_of_life_cannot_be_read_holds_an_output_until_its_file_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign_of(owner: Owner) -> None:
        if owner.signs.uri.startswith("s3://"):
            raise StorageError(f"{owner.signs.where()} cannot be read: ACCESS_DENIED")

    monkeypatch.setattr(owners, "_sign_of", sign_of)
    output, store = Storage.open(tmp_path / "out"), Storage.open(tmp_path / "store")
    with far(store) as mine:
        killed = dataclasses.replace(mine.owner, signs=Storage("s3://ID:SECRET@bucket/a/owners"))
        lease = take(output.sub(".lease"), killed, what=output.where())
    with pytest.raises(HeldError) as caught, claimed(output, store, name=None):
        pass
    said, file = str(caught.value), output.sub(".lease").path(lease.file)
    assert f"{output.where()} was being made by the job that makes runs/None (process" in said
    assert "(s3://bucket/a/owners cannot be read: ACCESS_DENIED); once that job has ended" in said
    assert f"delete {file}" in said
    Path(file).unlink()
    with claimed(output, store, name=None):
        pass


def test_what_says_who_holds_a_result_has_no_keys_and_is_asked_with_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Storage] = []
    monkeypatch.setattr(leases, "is_alive", lambda owner: bool(asked.append(owner.signs)))
    result = result_in(tmp_path)
    with far(Storage.open(tmp_path / "store")) as mine:
        own = dataclasses.replace(mine.owner, signs=Storage("s3://ID:SECRET@bucket/a/owners"))
        assert owner_of(own.record()).signs.uri == "s3://bucket/a/owners"
        took(result, own)
        same = dataclasses.replace(own, name="other", start="other")
        took(result, same)
        assert [signs.uri for signs in asked] == [own.signs.uri]
        elsewhere = Storage("s3://ID:SECRET@bucket/b/owners")
        took(result, dataclasses.replace(own, name="third", start="third", signs=elsewhere))
    assert [signs.uri for signs in asked[1:]] == [elsewhere.uri, own.signs.uri]
