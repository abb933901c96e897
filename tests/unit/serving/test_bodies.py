"""Bodies of requests that are not what they say."""

import base64
from typing import Any

import pytest

from expertree.serving import (
    HttpConfig,
)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "image/png"),
        (b"{", "application/json"),
        (b"[1]", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"image": 5}', "application/json"),
        (b'{"image": "###"}', "application/json"),
        (b'{"image": "", "image": ""}', "application/json"),
        (b"\xff\xfe{", "application/json"),
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=a"),
        (b"--a\r\n\r\nx\r\n--a--\r\n", "multipart/form-data; boundary=a"),
        (
            b'--a\r\nContent-Disposition: form-data; name="image"\r\n\r\nx',
            "multipart/form-data; boundary=a",
        ),
        (
            b'--a\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--a--\r\n',
            "multipart/form-data; boundary=a",
        ),
        (
            b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"x" * 9000 + b"\r\n--a--",
            "multipart/form-data; boundary=a",
        ),
    ],
)
def test_a_body_that_is_not_what_it_says_is_named(
    ask_with: Any, body: bytes, content_type: str
) -> None:
    ask = ask_with(HttpConfig())
    headers = {"Content-Type": content_type}
    ask.problem(ask("POST", "/v1/route", content=body, headers=headers), 400, "bad-request")


def test_the_kind_of_an_image_is_in_its_bytes_and_not_in_a_header(
    ask_with: Any, png: bytes
) -> None:
    ask = ask_with(HttpConfig())
    for kind in ("image/jpeg", "text/plain", "application/x-www-form-urlencoded"):
        response = ask("POST", "/v1/route", content=png, headers={"Content-Type": kind})
        assert response.status_code == 200
    fake = ask("POST", "/v1/route", content=b"GIF89a", headers={"Content-Type": "image/png"})
    ask.problem(fake, 415, "unsupported-format")
    ask.problem(ask("POST", "/v1/route", content=png[:-30]), 422, "bad-image")


def test_options_of_json_are_checked_like_all_others(ask_with: Any, png: bytes) -> None:
    ask = ask_with(HttpConfig())
    image = base64.b64encode(png).decode()
    for own in ({"levl": 1}, {"level": [1]}, {"level": {"a": 1}}, {"tile": 1.5}, {"level": True}):
        response = ask("POST", "/v1/restore", json={"image": image, **own})
        ask.problem(response, 422, "bad-option")
    good = {"image": image, "instruction": ["rain", "noise"], "level": None, "explain": False}
    assert ask("POST", "/v1/route", json=good).status_code == 200
