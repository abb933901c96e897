"""Images that are left as they are, and restorations that are mixed in, over HTTP."""

import asyncio
import base64
from typing import Any

import numpy as np
import pytest

from expertree.images.io import decode_u8, encode_png
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving import HttpConfig, LocalEngine, create_app
from expertree.serving.metrics import Measurement

TwoKinds = tuple[np.ndarray, np.ndarray]
AS_JSON = {"Accept": "application/json"}


def test_what_is_better_left_alone_comes_back_byte_for_byte(
    ask_careful: Any, two_kinds: TwoKinds
) -> None:
    _, good = two_kinds
    # Level 9: what writes PNG here would give other bytes.
    png = encode_png(good, level=9)
    answer = ask_careful("POST", "/v1/restore", content=png)
    assert answer.content == png
    assert answer.headers["x-restore-route"] == "as-is"
    assert answer.headers["x-restore-tiles"] == "0"
    assert 0.5 <= float(answer.headers["x-restore-confidence"]) <= 1
    other = ask_careful("POST", "/v1/restore?format=bmp", content=png)
    assert other.headers["x-restore-route"] == "as-is"
    assert np.array_equal(decode_u8(other.content), good)


def test_json_has_no_expert_and_says_why(
    ask_careful: Any, careful: Restorer, two_kinds: TwoKinds
) -> None:
    _, good = two_kinds
    png = encode_png(good)
    for path in ("/v1/restore", "/v1/route"):
        answer = ask_careful("POST", f"{path}?explain=true", content=png, headers=AS_JSON).json()
        route, expected = answer["route"], careful.route(good)
        assert route["expert"] is None
        assert route["node"] == expected.node
        assert route["gain_db"] == pytest.approx(expected.gain_db, abs=1e-4)
        assert len(route["alternatives"]) == len(careful.tree.experts())
        assert "the image is left as it is" in answer["explanation"]["text"]
    answer = ask_careful("POST", "/v1/restore", content=png, headers=AS_JSON)
    assert base64.b64decode(answer.json()["image"]) == png
    assert answer.headers["x-restore-route"] == "as-is"


def test_whoever_insists_or_names_something_gets_an_expert(
    ask_careful: Any, careful: Restorer, two_kinds: TwoKinds
) -> None:
    _, good = two_kinds
    png, expected = encode_png(good), careful.restore(good, Wish(insist=True))
    query = ask_careful("POST", "/v1/restore?insist=true", content=png)
    form = ask_careful(
        "POST", "/v1/restore", files={"image": ("a.png", png)}, data={"insist": "true"}
    )
    body = {"image": base64.b64encode(png).decode(), "insist": True}
    content = ask_careful("POST", "/v1/restore", json=body)
    assert query.content == form.content == content.content
    assert np.array_equal(decode_u8(query.content), expected.image)
    assert query.headers["x-restore-route"].startswith(f"expert={expected.route.expert}, ")
    for option in ("level=1", "expert=0", "confidence=2", "instruction=rain"):
        route = ask_careful("POST", f"/v1/route?{option}", content=png).json()["route"]
        assert route["expert"] is not None
    for option in ("insist=false", "strength=1"):
        headers = ask_careful("POST", f"/v1/restore?{option}", content=png).headers
        assert headers["x-restore-route"] == "as-is"


def test_strength_mixes_to_the_bit(
    ask_careful: Any, careful: Restorer, two_kinds: TwoKinds
) -> None:
    spoiled, _ = two_kinds
    png = encode_png(spoiled, level=9)
    whole = ask_careful("POST", "/v1/restore?strength=1", content=png)
    assert np.array_equal(decode_u8(whole.content), careful.restore(spoiled).image)
    part = ask_careful("POST", "/v1/restore?strength=0.4", content=png)
    expected = careful.restore(spoiled, Wish(strength=0.4)).image
    assert np.array_equal(decode_u8(part.content), expected)
    body = {"image": base64.b64encode(png).decode(), "strength": 0.4}
    assert ask_careful("POST", "/v1/restore", json=body).content == part.content
    nothing = ask_careful("POST", "/v1/restore?strength=0", content=png)
    assert nothing.content == png
    assert nothing.headers["x-restore-tiles"] == "0"
    assert nothing.headers["x-restore-route"] == whole.headers["x-restore-route"]


@pytest.mark.parametrize("value", ["1.1", "-0.1", "nan", "much", "0.4.1", "1e400", ""])
def test_a_strength_that_cannot_be_is_named(ask: Any, png: bytes, value: str) -> None:
    answer = ask("POST", f"/v1/restore?strength={value}", content=png)
    problem = ask.problem(answer, 422, "bad-option")
    assert problem["option"] == "strength"
    assert "from 0 to 1" in problem["detail"]


@pytest.mark.parametrize("value", [".5", "0.50", "5e-1", "1e-5", "0.", "-0.0"])
def test_a_strength_may_be_written_in_any_way(ask: Any, png: bytes, value: str) -> None:
    assert ask("POST", f"/v1/restore?strength={value}", content=png).status_code == 200


def test_a_job_of_an_image_that_is_left_alone_is_done_without_tiles(
    ask_careful: Any, two_kinds: TwoKinds
) -> None:
    _, good = two_kinds
    png = encode_png(good, level=9)

    async def follow() -> tuple[dict[str, Any], Any]:
        async with ask_careful.client() as client:
            accepted = await client.post("/v1/jobs", content=png)
            while True:
                job = (await client.get(accepted.headers["location"])).json()
                if job["state"] == "done":
                    return job, await client.get(job["result"])
                await asyncio.sleep(0.02)

    job, result = asyncio.run(follow())
    assert job["route"]["expert"] is None
    assert (job["tiles_done"], job["num_tiles"]) == (0, 0)
    assert result.content == png
    assert result.headers["x-restore-route"] == "as-is"


def test_images_left_alone_are_measured_with_a_level_and_no_expert(
    asker: Any, careful: Restorer, two_kinds: TwoKinds
) -> None:
    measured: list[Measurement] = []

    class Metrics:
        def record(self, measurement: Measurement) -> None:
            measured.append(measurement)

    app = create_app(LocalEngine(careful), HttpConfig(), metrics=Metrics())
    asker(app)("POST", "/v1/restore", content=encode_png(two_kinds[1]))
    assert measured[0].expert is None
    assert measured[0].level == careful.route(two_kinds[1]).level
