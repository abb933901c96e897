"""Results are whole or absent, on any filesystem."""

import errno
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from expertree import faults, storage
from expertree.errors import ArtefactError, StorageError, TransientStorageError
from expertree.experts import read_patches
from expertree.pipeline.tables import count_rows
from expertree.storage import DONE, Storage, describe


def test_a_result_is_done_only_after_commit(tmp_path: Path) -> None:
    result = Storage.open(tmp_path).sub("stage", "abc")
    result.write_bytes("deep/a.bin", b"1")
    assert not result.is_done()
    result.commit({"seed": 1})
    assert result.is_done()
    assert result.done()["spec"] == {"seed": 1}
    assert list(result.done()["files"]) == ["deep/a.bin"]
    result.verify()


def test_a_changed_file_fails_verification_by_name(tmp_path: Path) -> None:
    result = Storage.open(tmp_path)
    result.write_bytes("a.bin", b"1")
    result.commit({})
    (tmp_path / "a.bin").write_bytes(b"2")
    with pytest.raises(ArtefactError, match=r"a\.bin has sha256"):
        result.verify()


def test_what_was_hashed_while_it_was_written_is_not_read_again(tmp_path: Path) -> None:
    result = Storage.open(tmp_path)
    for name in ("a.bin", "b.bin"):
        result.write_bytes(name, b"1")
    result.commit({})
    read_back = result.done()
    (tmp_path / "a.bin").write_bytes(b"2")
    result.commit({}, written={"a.bin": describe(b"1")})
    assert result.done() == read_back
    with pytest.raises(ArtefactError, match=r"a\.bin has sha256"):
        result.verify()


def test_a_file_that_is_shorter_than_what_was_written_is_no_result(tmp_path: Path) -> None:
    result = Storage.open(tmp_path)
    result.write_bytes("a.bin", b"12")
    with pytest.raises(StorageError, match=r"a\.bin has 2 bytes, but 3 were written"):
        result.commit({}, written={"a.bin": describe(b"123")})
    assert not result.is_done()


def test_a_file_that_was_written_and_is_gone_is_no_result(tmp_path: Path) -> None:
    result = Storage.open(tmp_path)
    result.write_bytes("a.bin", b"1")
    written = {name: describe(b"1") for name in ("a.bin", "deep/b.bin", "checkpoints/c.bin")}
    with pytest.raises(StorageError, match=r"deep/b\.bin was written, but is not listed there"):
        result.commit({}, written=written, without="checkpoints")
    assert not result.is_done()
    result.write_bytes("deep/b.bin", b"1")
    result.commit({}, written=written, without="checkpoints")
    assert list(result.done()["files"]) == ["a.bin", "deep/b.bin"]


def test_a_missing_file_fails_verification(tmp_path: Path) -> None:
    result = Storage.open(tmp_path)
    result.write_bytes("a.bin", b"1")
    result.commit({})
    result.delete("a.bin")
    with pytest.raises(ArtefactError, match="cannot be read"):
        result.verify()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Storage.open(tmp_path)
    result.write_bytes("a.bin", b"old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        result.write_bytes("a.bin", b"new")
    assert result.read_bytes("a.bin") == b"old"
    assert result.list_files() == ["a.bin"]


def test_unwritable_place_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        Storage.open(tmp_path / "file" / "below").check_writable()


class Broken:
    """A filesystem that raises the same error whatever is asked of it."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    def __getattr__(self, _: str) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise self.error

        return fail


S3 = "When reading information for key 'a' in bucket 'b': AWS Error {} during HeadObject operation"
PASSES = [
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(S3.format("UNKNOWN (HTTP status 503)")),
    OSError(S3.format("UNKNOWN (HTTP status 429)")),
    OSError(S3.format("SLOW_DOWN")),
    OSError(S3.format("NETWORK_CONNECTION")),
]
LASTS = [
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(S3.format("ACCESS_DENIED")),
    OSError(S3.format("UNKNOWN (HTTP status 400)")),
    OSError(S3.format("RESOURCE_NOT_FOUND")),
]
"""As pyarrow 26 raises them."""


@pytest.mark.parametrize("error", [*PASSES, *LASTS], ids=str)
@pytest.mark.parametrize(
    "deed",
    [
        lambda storage: storage.read_json("a"),
        lambda storage: storage.write_bytes("a", b""),
        lambda storage: storage.exists("a"),
        lambda storage: storage.list_files(),
        lambda storage: storage.delete("a"),
        lambda storage: storage.delete(),
        lambda storage: read_patches(storage, ["a"]),
        lambda storage: count_rows(storage, "a"),
    ],
    ids=["read", "write", "exists", "list", "delete", "delete all", "patches", "rows"],
)
def test_an_error_says_whether_it_may_pass(
    error: OSError,
    deed: Callable[[Storage], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "PATIENCE", faults.Patience(for_s=0.0))
    monkeypatch.setattr(storage, "_resolve", lambda uri: (Broken(error), uri))
    with pytest.raises(StorageError, match="cannot be") as raised:
        deed(Storage(str(tmp_path)))
    found = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(found, TransientStorageError) == (error in PASSES)
    assert str(found) == str(raised.value)
    assert str(error) in str(found)


def test_what_is_not_there_is_no_error_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ArtefactError, match="cannot be read"):
            Storage.open(folder).read_bytes("a")
        assert not Storage.open(folder).exists("a")


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(StorageError, match="nowhere://x"):
        Storage.open("nowhere://x")


def test_a_path_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened: its name is no UTF-8"):
        Storage.open(f"{tmp_path}/\udcff")


def test_json_that_is_not_json_is_an_artefact_error(tmp_path: Path) -> None:
    (tmp_path / DONE).write_text("{")
    with pytest.raises(ArtefactError, match="is not JSON"):
        Storage.open(tmp_path).done()


def test_storage_is_a_picklable_value(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    assert pickle.loads(pickle.dumps(storage)) == storage


def test_listing_a_missing_directory_is_empty(tmp_path: Path) -> None:
    assert Storage.open(tmp_path / "none").list_files() == []


QUERY = "?region=eu&endpoint_override=http://minio:9000/s3"


@pytest.mark.parametrize("query", ["", QUERY])
def test_the_query_of_a_uri_is_no_part_of_its_path(query: str) -> None:
    result = Storage(f"s3://bucket/runs/tree/abc{query}")
    assert result.sub("a", "b").uri == f"s3://bucket/runs/tree/abc/a/b{query}"
    assert result.above().uri == f"s3://bucket/runs/tree{query}"
    assert result.above(2).uri == f"s3://bucket/runs{query}"
    assert (result.name, result.above().name) == ("abc", "tree")


def test_a_question_mark_in_a_local_path_is_part_of_it(tmp_path: Path) -> None:
    below = Storage.open(tmp_path / "why?").sub("a")
    assert below.path() == str(tmp_path / "why?" / "a")
    assert below.above().uri == str(tmp_path / "why?")
    assert Storage("/a").above().uri == "/"


def test_sub_keeps_the_query_of_a_uri() -> None:
    storage = Storage("s3://bucket/runs?region=eu").sub("a", "b")
    assert storage.uri == "s3://bucket/runs/a/b?region=eu"


def test_messages_name_a_uri_whole_and_without_keys() -> None:
    storage = Storage(f"s3://id:secret@bucket/runs{QUERY}")
    assert storage.where() == f"s3://bucket/runs{QUERY}"
    assert storage.where("a/b.bin") == f"s3://bucket/runs/a/b.bin{QUERY}"
    assert Storage("/runs").where("a/b.bin") == "/runs/a/b.bin"


def test_of_several_that_make_a_new_file_one_does(tmp_path: Path) -> None:
    place = Storage.open(tmp_path / "below")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: place.create("a", bytes([n])), range(8)))
    assert made.count(True) == 1
    assert place.read_bytes("a") == bytes([made.index(True)])
    assert place.list_files() == ["a"]


def fails(times: int, error: Exception) -> Callable[[], str]:
    """A call that fails some times before it goes well."""
    left = [error] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    return call


def test_what_may_pass_is_tried_again_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(faults.time, "sleep", pauses.append)
    with faults.patience(faults.Patience(for_s=60.0, first_s=1.0, most_s=4.0)):
        assert faults.retried(fails(5, TransientStorageError("503"))) == "done"
    bounds = [1.0, 2.0, 4.0, 4.0, 4.0]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, bounds, strict=True))
    assert len(set(pauses)) == len(pauses)


def test_what_lasts_is_not_tried_again_and_what_passes_not_for_ever() -> None:
    with pytest.raises(StorageError, match="no permission"):
        faults.retried(fails(1, StorageError("no permission")))
    begin = time.monotonic()
    short = faults.Patience(for_s=0.2, first_s=0.01)
    with pytest.raises(TransientStorageError, match="503"), faults.patience(short):
        faults.retried(fails(1000, TransientStorageError("503")))
    assert time.monotonic() - begin < 5.0


def test_a_deletion_whose_answer_was_lost_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Storage.open(tmp_path)
    place.write_bytes("a", b"")
    local = place.filesystem

    class LosesOneAnswer:
        answers = 0

        def delete_file(self, path: str) -> None:
            local.delete_file(path)
            self.answers += 1
            if self.answers == 1:
                raise OSError(errno.ETIMEDOUT, "timed out")

    monkeypatch.setattr(faults, "PATIENCE", faults.Patience(first_s=0.01))
    lossy = LosesOneAnswer()
    monkeypatch.setattr(storage, "_resolve", lambda uri: (lossy, uri))
    place.delete("a")
    assert not (tmp_path / "a").exists()
