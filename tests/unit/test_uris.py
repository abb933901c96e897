"""What is shown and kept of URIs that hold keys."""

import pytest

from expertree.uris import public, with_keys_of

SECRET = "s3://ID:SECRET@bucket/store?endpoint_override=http://me:MINE@host:9000/s3"
SHOWN = "s3://bucket/store?endpoint_override=http://host:9000/s3"

AZURE = "abfs://box@account.dfs.core.windows.net/runs"


def test_plain_data_is_made_public_however_deep_its_uris_lie() -> None:
    data = {"store": SECRET, "more": [{"command": f"expertree build store={SECRET} a=b"}, 3, None]}
    assert public(data) == {
        "store": SHOWN,
        "more": [{"command": f"expertree build store={SHOWN} a=b"}, 3, None],
    }
    assert public((SECRET, 1.5)) == (SHOWN, 1.5)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"{AZURE}?sas_token=sv%3D2&tenant_id=t", f"{AZURE}?tenant_id=t"),
        (f"{AZURE}?tenant_id=t&client_secret=S", f"{AZURE}?tenant_id=t"),
        (f"{AZURE}?client_secret=S", AZURE),
        ("abfss://box:KEY@account.net/runs", "abfss://box@account.net/runs"),
        ("abfs://:KEY@account.net/box", "abfs://account.net/box"),
        ("https://host/a?v=1&sig=S&X-Amz-Security-Token=T", "https://host/a?v=1"),
        ("https://TOKEN@host/a", "https://host/a"),
    ],
)
def test_keys_are_left_out_and_places_stay(uri: str, shown: str) -> None:
    assert public(f"build store={uri} a=b") == f"build store={shown} a=b"
    assert with_keys_of(shown, ["s3://bucket", uri]) == uri


@pytest.mark.parametrize(
    "text",
    [
        AZURE,
        "gs://anonymous@bucket/a",
        "hdfs://me@host:8020/a",
        "s3://bucket/a?region=eu&scheme=http is what? token=3 of s3://b",
        "/data/a@b",
        "me@host",
        "a title: 3 @ 5",
        "s3://bucket/a@b",
        "see http://host/a me@b",
    ],
)
def test_what_holds_no_key_stays_as_it_is(text: str) -> None:
    assert public(text) == text


def test_keys_are_put_back_for_the_same_bucket_alone() -> None:
    known = ["/local", "s3://bucket/none", "s3://ID:SECRET@bucket/store?region=eu"]
    assert with_keys_of("s3://bucket/a/b?region=eu", known) == (
        "s3://ID:SECRET@bucket/a/b?region=eu"
    )
    for uri in ("s3://bucket2/a", "gs://bucket/a", "/local/a", "s3://other:key@bucket/a"):
        assert with_keys_of(uri, known) == uri
