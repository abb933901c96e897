"""What is shown and kept of URIs that hold keys."""

import pytest

from expertree.uris import public, with_keys_of

SECRET = "s3://ID:SECRET@bucket/store?endpoint_override=http://me:MINE@host:9000/s3"
SHOWN = "s3://bucket/store?endpoint_override=http://host:9000/s3"


def test_plain_data_is_made_public_however_deep_its_uris_lie() -> None:
    data = {"store": SECRET, "more": [{"command": f"expertree build store={SECRET} a=b"}, 3, None]}
    assert public(data) == {
        "store": SHOWN,
        "more": [{"command": f"expertree build store={SHOWN} a=b"}, 3, None],
    }
    assert public((SECRET, 1.5)) == (SHOWN, 1.5)


@pytest.mark.parametrize(
    "text", ["/data/a@b", "me@host", "a title: 3 @ 5", "s3://bucket/a@b", "see http://host/a me@b"]
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
