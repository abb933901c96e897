"""The storage on a server that speaks S3, which is busy, cuts connections and goes away."""

import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pytest
from pyarrow import fs

from expertree import faults, storage
from expertree.errors import ArtefactError, StorageError, TransientStorageError
from expertree.pipeline.recorder import recorded
from expertree.pipeline.tables import count_rows, read_table, read_tables, write_table
from expertree.status import RunState, read_status
from expertree.storage import Storage
from faulty import Fault, FaultyProxy, s3_server

pytestmark = [
    # moto and botocore build patterns and dates as older Pythons liked them.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyProxy]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with s3_server() as proxy:
            yield proxy


@pytest.fixture
def proxy(server: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> FaultyProxy:
    """The server on a good day; a job that meets a bad one pauses for shorter than in earnest."""
    monkeypatch.setattr(faults, "PATIENCE", faults.Patience(for_s=30.0, first_s=0.02, most_s=0.2))
    monkeypatch.setattr(storage, "SETTLE_S", 0.2)
    server.fault_of = lambda _number, _method: None
    server.faults.clear()
    return server


@pytest.fixture
def blunt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the storage has patience: pyarrow's own client tries once, and not for six seconds."""

    def resolve(uri: str) -> tuple[fs.FileSystem, str]:
        _, path = fs.FileSystem.from_uri(uri)
        query = dict(parse_qsl(urlsplit(uri).query))
        once = fs.AwsStandardS3RetryStrategy(max_attempts=1)
        return fs.S3FileSystem(**query, retry_strategy=once), path

    monkeypatch.setattr(storage, "_resolve", resolve)


class SomeFail:
    """One request in twenty is answered by 503, one read in ten is cut in the middle."""

    def __init__(self) -> None:
        self.num_reads = 0

    def __call__(self, number: int, method: str) -> Fault:
        self.num_reads += method == "GET"
        if number % 20 == 3:
            return "busy"
        return "cut" if method == "GET" and self.num_reads % 10 == 5 else None


def test_results_are_whole_though_one_request_in_twenty_fails(proxy: FaultyProxy) -> None:
    proxy.fault_of = SomeFail()
    result = Storage.open(proxy.uri("runs/faulty")).sub("stage", "abc")
    contents = {f"part-{number:03d}.bin": bytes([number]) * 5000 for number in range(16)}
    for name, data in contents.items():
        result.write_bytes(name, data)
    result.commit({"seed": 1})
    result.verify()
    assert {name: result.read_bytes(name) for name in contents} == contents
    assert proxy.num_busy >= 3
    assert proxy.num_cut >= 2


def test_tables_are_whole_though_reads_are_cut(proxy: FaultyProxy) -> None:
    directory = Storage.open(proxy.uri("runs/tables"))
    table = pa.table({"id": [str(n) for n in range(500)], "value": list(range(500))})
    names = [f"part-{number}.parquet" for number in range(4)]
    for name in names:
        write_table(directory, name, table)
    proxy.fault_of = SomeFail()
    for _ in range(2):
        assert read_table(directory, names[0]).equals(table)
        assert count_rows(directory, names[1]) == 500
        assert read_tables(directory, names, ["value"])["value"].to_pylist() == [*range(500)] * 4
    assert proxy.num_cut >= 2


@pytest.mark.usefixtures("blunt")
def test_a_server_that_is_away_for_a_while_costs_only_that_while(proxy: FaultyProxy) -> None:
    result = Storage.open(proxy.uri("runs/away"))
    result.write_bytes("a.bin", b"before")
    proxy.stop()
    back = threading.Timer(1.0, proxy.start)
    back.start()
    begin = time.monotonic()
    assert result.read_bytes("a.bin") == b"before"
    assert time.monotonic() - begin > 0.8
    result.write_bytes("a.bin", b"after")
    back.join()
    assert result.read_bytes("a.bin") == b"after"


@pytest.mark.usefixtures("blunt")
def test_what_stays_broken_is_an_error_that_may_pass_with_the_whole_uri(
    proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "PATIENCE", faults.Patience(for_s=0.5, first_s=0.05))
    result = Storage.open(proxy.uri("runs/busy"))
    proxy.fault_of = lambda _number, _method: "busy"
    with pytest.raises(TransientStorageError) as raised:
        result.read_bytes("a.bin")
    query = proxy.uri("").partition("?")[2]
    assert f"s3://bucket/runs/busy/a.bin?{query} cannot be read" in str(raised.value)


def test_what_will_not_pass_is_said_at_once(proxy: FaultyProxy) -> None:
    begin = time.monotonic()
    elsewhere = Storage(proxy.uri("runs").replace("bucket", "no-such-bucket"))
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/runs/a\.bin.* cannot") as said:
        elsewhere.write_bytes("a.bin", b"")
    assert not isinstance(said.value, TransientStorageError)
    with pytest.raises(ArtefactError, match="s3://bucket/runs/none"):
        Storage(proxy.uri("runs")).read_bytes("none")
    assert time.monotonic() - begin < 5.0


def test_a_new_file_is_made_by_one_of_several(proxy: FaultyProxy) -> None:
    place = Storage.open(proxy.uri("runs/create"))
    made: list[bytes] = []

    def create(data: bytes) -> None:
        if place.create("1.json", data):
            made.append(data)

    threads = [threading.Thread(target=create, args=(bytes([n]),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [place.read_bytes("1.json")]
    assert not place.create("1.json", b"late")


def test_how_a_run_stands_is_read_from_a_bucket(proxy: FaultyProxy) -> None:
    output = Storage.open(proxy.uri("runs/mine"))
    with recorded(output, "build", "My tree") as recorder:
        recorder.events.emit("stage_started", stage="degrade", cached=False)
        assert read_status(output).state is RunState.RUNNING
        output.write_bytes("report.html", b"")
    status = read_status(output)
    assert status.state is RunState.DONE
    assert status.last_event is not None
    assert status.last_event["event"] == "build_done"
    assert status.results == {"report": output.where("report.html")}
    assert status.results["report"].startswith("s3://bucket/runs/mine/report.html?region=")
