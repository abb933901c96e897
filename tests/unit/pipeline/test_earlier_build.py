"""A finished build is found on stores that need more than a path."""

import pytest

from expertree.pipeline.earlier_build import FinishedBuild

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
