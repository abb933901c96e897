"""A finished build is found on stores that need more than a path."""

from pathlib import Path

import pytest

from expertree.errors import StorageError
from expertree.pipeline import earlier_build
from expertree.pipeline.earlier_build import FinishedBuild
from expertree.storage import Storage

QUERY = "?region=eu&endpoint_override=http://127.0.0.1:9000/s3"


@pytest.mark.parametrize(
    ("root", "query"), [("/runs/store", ""), ("s3://bucket/store", "?region=eu"), ("s3://b", QUERY)]
)
def test_the_store_is_two_levels_above_its_results(root: str, query: str) -> None:
    build = object.__new__(FinishedBuild)  # opening one reads its tree
    build._stored = {"tree": f"{root}/tree/abc{query}"}
    build.report = {"experts": [{"index": 0, "key": "k"}]}
    assert build.store.uri == root + query
    assert build.experts[0].uri == f"{root}/expert/k{query}"


def test_a_store_whose_keys_the_report_does_not_keep_is_reached_by_those_that_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {
        "tree": "s3://bucket/store/tree/abc?region=eu",
        "bundle": "s3://other/store/bundle/abc?region=eu",
    }
    Storage.open(tmp_path).write_json("report.json", {"stored": stored, "experts": []})
    monkeypatch.setattr(earlier_build, "load_tree", lambda _: None)
    build = FinishedBuild(str(tmp_path), key="grow.build", store="s3://id:key@bucket/store")
    assert build.store.uri == "s3://id:key@bucket/store?region=eu"
    assert build.directory("bundle").uri == stored["bundle"]

    def refuse(place: Storage) -> None:
        raise StorageError(f"{place.where()} cannot be read: ACCESS_DENIED")

    monkeypatch.setattr(earlier_build, "load_tree", refuse)
    with pytest.raises(StorageError, match=r"report\.json keeps no keys .* AWS_ACCESS_KEY_ID"):
        FinishedBuild(str(tmp_path), key="grow.build")
