"""The log of a batch: appended, read again, cut off by kills."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from expertree.batch.decoders import decoders
from expertree.batch.listing import PhotoItem
from expertree.batch.manifest import (
    MANIFEST,
    BatchManifest,
    History,
    PhotoRecord,
    WriteJournal,
    read_history,
)
from expertree.batch.planning import plan_batch, refuse_foreign
from expertree.batch.settings import ExistingPolicy
from expertree.errors import ConfigError, StorageError


def record(name: str = "a.png", **changes) -> PhotoRecord:
    values = {
        "state": "done",
        "name": name,
        "num_bytes": 10,
        "mtime_ns": 20,
        "model": "m",
        "options": "o",
        "output": name,
        "expert": 3,
        "notes": ("its palette became RGB",),
    }
    return PhotoRecord(**{**values, **changes})


def item(name: str = "a.png", num_bytes: int = 10, mtime_ns: int = 20) -> PhotoItem:
    return PhotoItem(name=name, output=name, num_bytes=num_bytes, mtime_ns=mtime_ns, num_pixels=1)


def write(folder: Path, *records: PhotoRecord) -> Path:
    with BatchManifest(folder / MANIFEST) as manifest:
        for entry in records:
            manifest.append(entry)
    return folder / MANIFEST


def plan(items, folder: Path, *, existing="refuse", model="m", options="o"):
    history = read_history(folder / MANIFEST)
    found = plan_batch(items, folder, history, model=model, options=options, existing=existing)
    refuse_foreign(found, folder)
    return found


@contextlib.contextmanager
def no_room_behind(num_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond its first bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_finds_no_room_goes_with_the_next_and_journals_stay_as_long(
    tmp_path: Path,
) -> None:
    with BatchManifest(tmp_path / MANIFEST) as manifest:
        WriteJournal(tmp_path).about_to_write(record("b.png"))
        with no_room_behind(10):
            for name in ("a.png", "b.png"):
                with pytest.raises(StorageError, match=r"manifest\.jsonl cannot be written: File"):
                    manifest.append(record(name))
            with pytest.raises(StorageError):
                manifest.forget_journals()
        assert list(tmp_path.glob(".partial*"))
        manifest.append(record("c.png"))
    lines = map(json.loads, (tmp_path / MANIFEST).read_text().splitlines())
    assert [line["name"] for line in lines] == ["a.png", "b.png", "c.png"]
    assert not list(tmp_path.glob(".partial*"))


def test_what_is_appended_is_read_again_the_last_one_counts(tmp_path: Path) -> None:
    path = write(tmp_path, record(state="failed", error="is damaged"), record("b.png"))
    write(tmp_path, record())
    history = read_history(path)
    assert history.find(item(), "m", "o") == record()
    assert history.find(item("b.png"), "m", "o") == record("b.png")


def test_nothing_is_known_without_a_manifest(tmp_path: Path) -> None:
    assert read_history(tmp_path / MANIFEST) == History(records={}, written={})


def test_a_photograph_that_changed_or_another_model_is_not_known(tmp_path: Path) -> None:
    history = read_history(write(tmp_path, record()))
    assert history.find(item(num_bytes=11), "m", "o") is None
    assert history.find(item(mtime_ns=21), "m", "o") is None
    assert history.find(item(), "other", "o") is None
    assert history.find(item(), "m", "other") is None


@pytest.mark.parametrize("num_lost", [1, 5, 40])
def test_a_line_cut_off_by_a_kill_costs_one_photograph(tmp_path: Path, num_lost: int) -> None:
    path = write(tmp_path, record("a.png"), record("b.png"))
    path.write_bytes(path.read_bytes()[:-num_lost])
    write(tmp_path, record("c.png"))
    known = {key[0] for key in read_history(path).records}
    assert known == ({"a.png", "b.png", "c.png"} if num_lost == 1 else {"a.png", "c.png"})


def test_two_batches_never_share_a_folder(tmp_path: Path) -> None:
    with (
        BatchManifest(tmp_path / MANIFEST),
        pytest.raises(StorageError, match="another batch is writing to"),
    ):
        BatchManifest(tmp_path / MANIFEST)
    write(tmp_path)


def test_what_is_done_is_not_done_again_unless_it_is_gone(tmp_path: Path) -> None:
    write(tmp_path, record())
    assert plan((item(),), tmp_path).remaining == (item(),)  # the restored one was deleted
    (tmp_path / "a.png").write_bytes(b"")
    done = plan((item(), item("b.png")), tmp_path)
    assert done.earlier == (record(),)
    assert done.remaining == (item("b.png"),)


def test_what_failed_for_good_is_not_tried_again_but_what_may_succeed_is(tmp_path: Path) -> None:
    lasting = record("a.png", state="failed", is_lasting=True)
    write(tmp_path, lasting, record("b.png", state="failed"))
    divided = plan((item(), item("b.png")), tmp_path)
    assert divided.earlier == (lasting,)
    assert divided.remaining == (item("b.png"),)


def test_what_other_decoders_could_not_read_is_tried_again(tmp_path: Path) -> None:
    here = record("a.png", state="failed", is_lasting=True, decoders=decoders())
    write(tmp_path, here, dataclasses.replace(here, name="b.png", output="b.png", decoders="old"))
    items = item(), item("b.png")
    assert plan(items, tmp_path).earlier == (here,)
    assert plan(items, tmp_path).remaining == items[1:]
    assert plan(items, tmp_path, existing="skip").remaining == items[1:]
    assert plan(items, tmp_path, existing="overwrite").remaining == items


def test_files_of_others_are_replaced_or_left_alone_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"someone's")
    with pytest.raises(ConfigError, match=r"1 of 2 .*a\.png; --overwrite .*--skip-existing"):
        plan((item(), item("b.png")), tmp_path)
    assert plan((item(),), tmp_path, existing="overwrite").remaining == (item(),)
    skipped = plan((item(), item("b.png")), tmp_path, existing="skip")
    assert skipped.skipped == ("a.png",)
    assert skipped.remaining == (item("b.png"),)


def test_what_a_batch_wrote_is_its_own_until_somebody_changes_it(tmp_path: Path) -> None:
    write(tmp_path, record(sha256=hashlib.sha256(b"whole").hexdigest()))
    (tmp_path / "a.png").write_bytes(b"whole")
    changed = item(mtime_ns=21)
    assert plan((changed,), tmp_path).remaining == (changed,)
    with pytest.raises(ConfigError, match="would replace files"):
        plan((changed,), tmp_path, options="other")
    (tmp_path / "a.png").write_bytes(b"retouched")
    with pytest.raises(ConfigError, match=r"would replace files, such as .*a\.png; --overwrite"):
        plan((changed,), tmp_path)
    assert plan((changed,), tmp_path, existing="overwrite").remaining == (changed,)
    assert plan((item(),), tmp_path).earlier != ()  # nothing to do, and it is left alone


def stop_before_its_line(folder: Path, data: bytes) -> None:
    """What a batch leaves that is killed between the renaming of a file and its line."""
    with contextlib.suppress(KeyboardInterrupt), BatchManifest(folder / MANIFEST):
        digest = hashlib.sha256(data).hexdigest()
        WriteJournal(folder).about_to_write(record(sha256=digest))
        (folder / "a.png").write_bytes(data)
        raise KeyboardInterrupt


def test_what_a_killed_batch_wrote_without_saying_so_is_its_own(tmp_path: Path) -> None:
    stop_before_its_line(tmp_path, b"whole")
    assert plan((item(),), tmp_path).remaining == (item(),)
    with pytest.raises(ConfigError, match="would replace files"):
        plan((item(),), tmp_path, options="other")
    (tmp_path / "a.png").write_bytes(b"retouched")
    with pytest.raises(ConfigError, match="would replace files"):
        plan((item(),), tmp_path)


def test_journals_end_with_a_whole_batch_and_what_stopped_ones_say_stays_known(
    tmp_path: Path,
) -> None:
    stop_before_its_line(tmp_path, b"whole")
    write(tmp_path, record("b.png", sha256="1" * 64))
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert plan((item(),), tmp_path).remaining == (item(),)


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_a_folder_without_locks_takes_a_batch_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def without(*_: object) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr(fcntl, "flock", without)
    write(tmp_path, record())
    assert read_history(tmp_path / MANIFEST).find(item(), "m", "o") == record()


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_other_options_replaced_is_done_no_longer(tmp_path: Path) -> None:
    write(tmp_path, record(sha256=hashed(b"A")), record(sha256=hashed(b"B"), options="other"))
    (tmp_path / "a.png").write_bytes(b"B")
    with pytest.raises(ConfigError, match="would replace files"):
        plan((item(),), tmp_path)
    assert plan((item(),), tmp_path, existing="overwrite").remaining == (item(),)
    assert plan((item(),), tmp_path, existing="skip").skipped == ("a.png",)
    assert len(plan((item(),), tmp_path, options="other").earlier) == 1


def test_what_a_killed_batch_of_other_options_replaced_is_done_no_longer(tmp_path: Path) -> None:
    write(tmp_path, record(sha256=hashed(b"B"), options="other"))
    stop_before_its_line(tmp_path, b"A")
    assert plan((item(),), tmp_path, existing="overwrite", options="other").remaining == (item(),)
    write(tmp_path, record(sha256=hashed(b"B"), options="other"))
    assert len(plan((item(),), tmp_path, options="other").earlier) == 1


@pytest.mark.parametrize(
    ("name", "origin", "is_own"),
    [("a.png", "f1", True), ("a.png", "f2", False), ("a", "f1", False)],
)
def test_what_was_made_of_another_photograph_is_replaced_only_if_asked(
    tmp_path: Path, name: str, origin: str, is_own: bool
) -> None:
    made = record("a.png", output="x.png", sha256=hashed(b"f1"), origin="f1")
    for write_down in (
        lambda: WriteJournal(tmp_path).about_to_write(made),
        lambda: write(tmp_path, made),
    ):
        write_down()
        (tmp_path / "x.png").write_bytes(b"f1")
        later = dataclasses.replace(item(name, mtime_ns=21), output="x.png")
        given = {"model": "m", "options": "o", "origin": origin}
        history = read_history(tmp_path / MANIFEST)
        divided = plan_batch((later,), tmp_path, history, existing="refuse", **given)
        assert divided.remaining == ((later,) if is_own else ())
        assert divided.foreign == (() if is_own else (later,))
        divided = plan_batch((later,), tmp_path, history, existing="overwrite", **given)
        assert divided.remaining == (later,)


@pytest.mark.parametrize(
    ("existing", "origin", "is_done"),
    [
        ("overwrite", "f1", True),
        ("overwrite", "f2", False),
        ("refuse", "f2", True),  # the folder may have been moved
        ("skip", "f2", True),
    ],
)
def test_a_photograph_of_another_folder_passes_for_done_unless_it_is_to_be_overwritten(
    tmp_path: Path, existing: ExistingPolicy, origin: str, is_done: bool
) -> None:
    write(tmp_path, record(sha256=hashed(b"f1"), origin="f1"))
    (tmp_path / "a.png").write_bytes(b"f1")
    history = read_history(tmp_path / MANIFEST)
    given = {"model": "m", "options": "o", "origin": origin, "existing": existing}
    divided = plan_batch((item(),), tmp_path, history, **given)
    assert len(divided.earlier) == is_done
    assert len(divided.remaining) == (not is_done)


def test_lines_that_know_no_folder_are_read_as_before(tmp_path: Path) -> None:
    old = {"model": "m", "options": "o", "sha256": hashed(b"whole")}
    lines = [
        {"state": "writing", "output": "a.png", **old},
        {
            "state": "done",
            "name": "b.png",
            "output": "b.png",
            "num_bytes": 10,
            "mtime_ns": 20,
            **old,
        },
        {"state": "writing", "output": "cut off by hand"},
    ]
    (tmp_path / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))
    items = item(), item("b.png"), item("b.png", mtime_ns=21)
    for each in items:
        (tmp_path / each.output).write_bytes(b"whole")
    divided = plan_batch(
        items,
        tmp_path,
        read_history(tmp_path / MANIFEST),
        model="m",
        options="o",
        existing="refuse",
        origin="f1",
    )
    assert divided.remaining == (items[0], items[2])
    assert [entry.name for entry in divided.earlier] == ["b.png"]


def test_one_photograph_may_go_to_two_places(tmp_path: Path) -> None:
    other = dataclasses.replace(item(), output="a_x.png")
    write(tmp_path, record(sha256=hashed(b"A")), record(output="a_x.png", sha256=hashed(b"A")))
    (tmp_path / "a.png").write_bytes(b"A")
    assert plan((item(),), tmp_path).earlier[0].output == "a.png"
    assert plan((other,), tmp_path).remaining == (other,)
