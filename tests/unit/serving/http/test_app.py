"""The contract: what callers send, and what they get for it."""

import asyncio
import base64
import gzip
import io
import json
import zlib
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from expertree.images.io import decode_u8
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving import HttpConfig, LocalEngine, create_app
from expertree.serving.settings import Limits


def test_a_raw_body_is_answered_by_the_restored_file(
    ask: Any, restorer: Restorer, photo: np.ndarray, png: bytes
) -> None:
    response = ask("POST", "/v1/restore", content=png)
    expected = restorer.restore(photo)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert np.array_equal(decode_u8(response.content), expected.image)
    assert response.headers["x-restore-model"] == restorer.bundle.manifest.digest
    path = " ".join(map(str, restorer.tree.path(expected.route.leaf)[: expected.route.level + 1]))
    assert response.headers["x-restore-route"] == (
        f"expert={expected.route.expert}, level={expected.route.level}, path=({path})"
    )
    assert float(response.headers["x-restore-confidence"]) == pytest.approx(
        expected.route.confidence, abs=1e-4
    )
    assert response.headers["x-restore-tiles"] == "1"
    stages = [part.split(";")[0] for part in response.headers["server-timing"].split(", ")]
    assert stages == ["decode", "queue", "route", "restore", "encode"]
    assert response.headers["x-request-id"]


def test_a_form_and_json_carry_the_image_and_the_options(
    ask: Any, restorer: Restorer, photo: np.ndarray, png: bytes
) -> None:
    expected = restorer.restore(photo, Wish(expert=0)).image
    form = ask("POST", "/v1/restore", files={"image": ("a.png", png)}, data={"expert": "0"})
    assert np.array_equal(decode_u8(form.content), expected)
    body = {"image": base64.b64encode(png).decode(), "expert": 0}
    content = ask("POST", "/v1/restore", json=body)
    assert np.array_equal(decode_u8(content.content), expected)
    query = ask("POST", "/v1/restore?expert=0", content=png)
    assert query.content == form.content == content.content


def test_json_is_answered_where_it_is_asked_for(
    ask: Any, restorer: Restorer, photo: np.ndarray, png: bytes
) -> None:
    response = ask(
        "POST", "/v1/restore?explain=true", content=png, headers={"Accept": "application/json"}
    )
    answer = response.json()
    expected = restorer.restore(photo)
    assert np.array_equal(decode_u8(base64.b64decode(answer["image"])), expected.image)
    assert answer["media_type"] == "image/png"
    assert answer["route"]["expert"] == expected.route.expert
    assert answer["route"]["leaf_probabilities"] == list(expected.route.leaf_probabilities)
    assert list(answer["route"]["degradations"]) == sorted(
        answer["route"]["degradations"], key=lambda name: -answer["route"]["degradations"][name]
    )
    assert [step["node"] for step in answer["explanation"]["steps"]] == answer["route"]["path"]
    assert f"Expert {expected.route.expert} " in answer["explanation"]["text"]


@pytest.mark.parametrize(
    ("accept", "path", "media"),
    [
        ("image/webp", "/v1/restore", "image/webp"),
        ("image/*;q=0.5, application/json", "/v1/restore", "application/json"),
        ("text/html, image/*", "/v1/restore", "image/png"),
        ("image/jpeg;q=0.2, image/tiff;q=0.9, */*;q=0.1", "/v1/restore", "image/tiff"),
        ("*/*", "/v1/restore?format=jpg&quality=80", "image/jpeg"),
        ("application/json;q=0, */*", "/v1/restore?format=bmp", "image/bmp"),
        ("image/jpg", "/v1/restore", "image/jpeg"),
        ("image/pjpeg;q=0.5, image/x-ms-bmp", "/v1/restore", "image/bmp"),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "/v1/restore", "image/jpeg"),
    ],
)
def test_the_answer_is_of_the_kind_that_the_caller_takes(
    ask: Any, png: bytes, accept: str, path: str, media: str
) -> None:
    response = ask("POST", path, content=png, headers={"Accept": accept})
    assert response.headers["content-type"] == media


def test_a_route_is_told_without_a_restoration(
    ask: Any, restorer: Restorer, photo: np.ndarray, png: bytes
) -> None:
    answer = ask("POST", "/v1/route?confidence=2&explain=1", content=png).json()
    expected = restorer.route(photo, Wish(confidence=2))
    assert (answer["route"]["expert"], answer["route"]["level"]) == (expected.expert, 2)
    assert (answer["height_px"], answer["width_px"]) == photo.shape[:2]
    assert "explanation" in answer
    assert "image" not in answer
    ask.problem(ask("POST", "/v1/route?format=png", content=png), 422, "bad-option")


def test_models_show_the_tree(ask: Any, restorer: Restorer) -> None:
    answer = ask("GET", "/v1/models").json()
    (model,) = answer["models"]
    assert not answer["free_text"]
    assert [node["index"] for node in model["nodes"]] == list(range(len(restorer.tree.nodes)))
    assert model["nodes"][0]["parent"] is None
    for name in ("tiny", restorer.bundle.manifest.digest):
        assert ask("GET", f"/v1/models/{name}").json() == model
    ask.problem(ask("GET", "/v1/models/other"), 404, "not-found")


@pytest.mark.parametrize(
    ("query", "option", "hint"),
    [
        ("levl=1", "levl", "Did you mean 'level'?"),
        ("level=9", "level", "levels 0 to 2"),
        ("level=-1", "level", "whole number"),
        ("level=1&level=2", "level", "more than once"),
        ("level=1&confidence=1", "level", "give one"),
        ("expert=77", "expert", "there are 0"),
        ("confidence=3", "confidence", "0, 1 or 2"),
        ("instruction=fog", "instruction", "haze, noise, rain"),
        ("instruction=take%20the%20rain%20off", "instruction", "free text is not set up"),
        ("instruction=", "instruction", "empty"),
        ("tile=10", "tile", "64"),
        ("tile=99999", "tile", "1024"),
        ("format=gif", "format", "png, jpeg"),
        ("quality=101", "quality", "1 to 100"),
        ("quality=90", None, "without loss"),
        ("explain=maybe", "explain", "true or false"),
        ("explain=true", "explain", "application/json"),
        ("expert=0&level=2", None, "does not serve level 2"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(
    ask: Any, png: bytes, query: str, option: str | None, hint: str
) -> None:
    content = ask.problem(ask("POST", f"/v1/restore?{query}", content=png), 422, "bad-option")
    assert content.get("option") == option
    assert hint in content["detail"]


def test_an_instruction_by_names_chooses_among_their_leaves(
    ask: Any, restorer: Restorer, photo: np.ndarray, png: bytes
) -> None:
    for query in ("instruction=rain,noise", "instruction=rain&instruction=noise"):
        answer = ask("POST", f"/v1/route?{query}", content=png).json()
        expected = restorer.route(photo, Wish(instruction=["rain", "noise"]))
        assert answer["route"]["leaf_probabilities"] == list(expected.leaf_probabilities)


def test_free_text_is_understood_where_it_is_set_up(
    asker: Any, restorer: Restorer, png: bytes
) -> None:
    app = create_app(
        LocalEngine(restorer),
        HttpConfig(),
        read_text=lambda text, _: ("rain",) if "rain" in text else (),
    )
    ask = asker(app)
    assert ask("GET", "/v1/models").json()["free_text"]
    free = ask("POST", "/v1/route?instruction=take+the+rain+off", content=png).json()
    named = ask("POST", "/v1/route?instruction=rain", content=png).json()
    assert free["route"]["leaf_probabilities"] == named["route"]["leaf_probabilities"]


def test_16_bits_and_a_format_survive(ask: Any) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    _, encoded = cv2.imencode(".png", deep)
    response = ask("POST", "/v1/restore", content=encoded.tobytes())
    restored = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert restored.dtype == np.uint16
    assert len(np.unique(restored & 0xFF)) > 100


def test_transparency_goes_into_no_jpeg(ask: Any) -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(stream, format="PNG")
    response = ask("POST", "/v1/restore?format=jpeg", content=stream.getvalue())
    assert "JPEG cannot hold" in ask.problem(response, 422, "bad-option")["detail"]


def test_what_the_framework_finds_is_a_problem_too(ask: Any) -> None:
    ask.problem(ask("GET", "/nothing"), 404, "not-found")
    wrong = ask("GET", "/v1/restore")
    assert "GET cannot be used" in ask.problem(wrong, 405, "no-such-method")["detail"]
    assert wrong.headers["allow"] == "POST"


def test_a_mistake_of_ours_says_no_more_than_its_id(
    ask: Any, restorer: Restorer, png: bytes
) -> None:
    class Broken(LocalEngine):
        async def route(self, pixels: Any, wish: Wish) -> Any:
            raise KeyError("a secret", pixels, wish)

    app = create_app(Broken(restorer), HttpConfig())

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/route", content=png)

    content = ask.problem(asyncio.run(send()), 500, "internal")
    assert "secret" not in json.dumps(content)


def test_health_and_readiness(ask: Any, asker: Any, restorer: Restorer) -> None:
    class Loading(LocalEngine):
        async def ready(self) -> bool:
            return False

        async def models(self) -> Any:
            return ()

    ask_loading = asker(create_app(Loading(restorer), HttpConfig()))
    assert ask_loading("GET", "/healthz").status_code == 200
    response = ask_loading("GET", "/readyz")
    ask.problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1
    ask.problem(ask_loading("GET", "/v1/models"), 503, "unavailable")
    assert ask("GET", "/readyz").json() == {"status": "ready"}


def test_the_page_and_its_files_come_from_memory(ask: Any) -> None:
    index = ask("GET", "/")
    assert index.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in index.headers["content-security-policy"]
    again = ask("GET", "/", headers={"If-None-Match": index.headers["etag"]})
    assert again.status_code == 304
    assert ask("GET", "/page/page.js").headers["content-type"].startswith("text/javascript")
    for path in ("/page/..%2fapp.py", "/page/../app.py", "/page//etc/passwd", "/page/nothing.js"):
        ask.problem(ask("GET", path), 404, "not-found")


def test_a_request_keeps_the_id_that_its_caller_gave(ask: Any) -> None:
    given = ask("GET", "/healthz", headers={"X-Request-Id": "trace-1"})
    assert given.headers["x-request-id"] == "trace-1"
    bad = ask("GET", "/healthz", headers={"X-Request-Id": "a b; drop"})
    assert bad.headers["x-request-id"] != "a b; drop"


def test_behind_a_proxy_that_names_requests_it_does_not_name_them_again(
    asker: Any, restorer: Restorer
) -> None:
    ask = asker(create_app(LocalEngine(restorer), HttpConfig(), echoes_id=False))
    for path in ("/healthz", "/v1/nothing"):
        assert "x-request-id" not in ask("GET", path).headers


def transparent() -> bytes:
    stream = io.BytesIO()
    image = Image.new("RGBA", (40, 30), (10, 200, 30, 255))
    image.putpixel((0, 0), (1, 2, 3, 4))
    image.save(stream, format="PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "image/png"),
        ("image/jpeg, image/webp;q=0.5, image/png;q=0.4", "image/webp"),
    ],
)
def test_of_the_kinds_that_are_taken_the_answer_is_one_that_holds_the_image(
    ask: Any, accept: str, media: str
) -> None:
    response = ask("POST", "/v1/restore", content=transparent(), headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == media
    assert Image.open(io.BytesIO(response.content)).format == media.partition("/")[2].upper()


def test_a_kind_that_cannot_hold_the_image_is_refused_where_no_other_is_taken(ask: Any) -> None:
    for request in ({"headers": {"Accept": "image/jpeg"}}, {"params": {"format": "jpg"}}):
        response = ask("POST", "/v1/restore", content=transparent(), **request)
        problem = ask.problem(response, 422, "bad-option")
        assert "transparency, which JPEG cannot hold" in problem["detail"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/docs", "/v1/models"])
def test_head_is_answered_as_get_without_the_body(ask: Any, path: str) -> None:
    got, head = ask("GET", path), ask("HEAD", path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]
    assert ask("POST", "/healthz").headers["allow"] == "GET, HEAD"
    assert ask("HEAD", "/v1/restore").status_code == 405


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "identity"])
def test_a_body_may_be_coded(ask: Any, png: bytes, coding: str) -> None:
    coders = {"deflate": zlib.compress, "identity": bytes}
    coded = coders.get(coding, gzip.compress)(png)
    response = ask("POST", "/v1/restore", content=coded, headers={"Content-Encoding": coding})
    assert response.content == ask("POST", "/v1/restore", content=png).content


def test_a_coding_that_is_not_read_is_named(ask: Any, png: bytes) -> None:
    response = ask("POST", "/v1/restore", content=png, headers={"Content-Encoding": "br"})
    assert "'br' is not read" in ask.problem(response, 415, "unsupported-format")["detail"]
    assert "gzip" in response.headers["accept-encoding"]
    for content in (png, gzip.compress(png)[:-20]):
        response = ask("POST", "/v1/restore", content=content, headers={"Content-Encoding": "gzip"})
        ask.problem(response, 400, "bad-request")


def test_a_coded_body_is_counted_as_it_is_decoded(asker: Any, restorer: Restorer) -> None:
    limits = Limits(max_body_bytes=10_000)
    ask = asker(create_app(LocalEngine(restorer, model_id="tiny"), HttpConfig(limits=limits)))
    bomb = gzip.compress(bytes(5_000_000))
    assert len(bomb) < 10_000
    response = ask("POST", "/v1/restore", content=bomb, headers={"Content-Encoding": "gzip"})
    ask.problem(response, 413, "too-large")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/photos", "/photos/v1/jobs/"),
        ("/a/, /b", "/a/b/v1/jobs/"),
        ("//evil.example", "/v1/jobs/"),
        ("/a/../b", "/v1/jobs/"),
        ("https://evil.example/", "/v1/jobs/"),
    ],
)
def test_a_job_lies_below_the_prefix_that_a_proxy_cuts_off(
    ask: Any, png: bytes, prefix: str, expected: str
) -> None:
    response = ask("POST", "/v1/jobs", content=png, headers={"X-Forwarded-Prefix": prefix})
    assert response.status_code == 202
    assert response.headers["location"].rpartition("/")[0] + "/" == expected


@pytest.mark.parametrize(
    "encode",
    [
        lambda data: base64.encodebytes(data).decode(),
        lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),
        lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
    ],
    ids=["lines", "data URL", "URL-safe"],
)
def test_base64_is_read_as_programs_write_it(ask: Any, png: bytes, encode: Any) -> None:
    response = ask("POST", "/v1/restore", json={"image": encode(png)})
    assert response.content == ask("POST", "/v1/restore", content=png).content


def test_what_is_no_base64_is_refused(ask: Any) -> None:
    response = ask("POST", "/v1/restore", json={"image": "a photograph!"})
    assert "not base64" in ask.problem(response, 400, "bad-request")["detail"]
