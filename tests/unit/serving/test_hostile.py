"""Whatever is sent: an image or a problem of the caller's comes back, and memory stays bounded."""

import asyncio
import base64
import gc
import io
import itertools
import json
import random
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from expertree.images.io import decode_u8
from expertree.restorer import Restorer
from expertree.serving import HttpConfig, Key, Limits, LocalEngine, create_app

MB = 1 << 20
MAX_PIXELS = 1_000_000
LIMITS = Limits(max_body_bytes=4 * MB, max_pixels=MAX_PIXELS, max_memory_bytes=64 * MB)
"""Memory that is not given back would soon make every answer a 429."""

MORE_MB = 200
"""What hostile requests may take beyond what valid ones do."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")

Case = tuple[str, dict[str, Any]]
"""Path with query, and the rest of a request."""


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (31, 23)) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(
        mode
    )


def chunk(name: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def png(
    width_px: int,
    height_px: int,
    *,
    depth: int = 8,
    colour: int = 2,
    interlace: int = 0,
    data: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    header = struct.pack(">IIBBBBB", width_px, height_px, depth, colour, 0, 0, interlace)
    parts = chunk(b"IHDR", header), extra, chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def broken_files() -> Iterator[bytes]:
    """Each format cut off and spoiled at many places."""
    for kind in FORMATS:
        whole = encoded(picture(), kind)
        for share in (0.005, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            yield whole[: max(1, int(share * len(whole)))]
        spoil = random.Random(kind)
        for _ in range(14):
            data = bytearray(whole)
            for _ in range(spoil.choice((1, 1, 4, 40))):
                place = spoil.choice((spoil.randrange(len(data)), spoil.randrange(64)))
                data[place % len(data)] = spoil.randrange(256)
            yield bytes(data)
        yield whole + b"trailing" * 100
        yield whole[:40] + bytes(2000) + whole[40:]


def odd_files() -> Iterator[bytes]:
    """Claims, bombs, kinds, modes and metadata that one meets, or is sent on purpose."""
    huge = 2**31 - 1
    yield from (png(*size) for size in ((0, 0), (0, 5), (9000, 9000), (huge, huge), (huge, 1)))
    yield png(2**32 - 1, 2**32 - 1)
    yield from (png(9, 9, depth=depth, colour=9) for depth in (0, 3, 8, 255))
    yield png(9, 9, interlace=7)
    bomb = zlib.compress(bytes(60 * MB), 9)
    yield png(9, 9, data=bomb)
    yield png(1000, 1000, data=bomb)
    yield png(9, 9, data=zlib.compress(bytes(9 * 28)), extra=chunk(b"zTXt", b"a\0\0" + bomb))
    yield png(9, 9, data=zlib.compress(bytes(9 * 28)), extra=chunk(b"iCCP", b"a\0\0" + bomb))
    yield png(9, 9, data=zlib.compress(bytes(9 * 28)), extra=chunk(b"iTXt", b"a\0\1\0\0\0" + bomb))
    yield png(9, 9, data=zlib.compress(bytes(9 * 28)), extra=chunk(b"tEXt", b"x" * 1000) * 500)
    yield png(9, 9, data=zlib.compress(bytes(9 * 28)), extra=chunk(b"PLTE", b"xx"))
    yield encoded(picture(size=(1000, 1000)).point(lambda _: 0), "PNG", compress_level=9)
    yield from (encoded(picture(size=size), "PNG") for size in ((1, 1), (1, 10_000), (10_000, 1)))
    yield from (encoded(picture(size=(1, 1)), kind) for kind in FORMATS)
    yield from (encoded(picture(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGBA"))
    yield from (encoded(picture(mode), "TIFF") for mode in ("1", "L", "CMYK", "YCbCr"))
    yield from (encoded(picture("CMYK"), "JPEG"), encoded(picture("L"), "JPEG"))
    yield encoded(picture("CMYK"), "JPEG", progressive=True)
    frames = [picture(), picture().rotate(90)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        yield encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    for profile in (b"", b"x", b"\0" * 128, b"\xff" * 400, bytes(range(256)) * 20):
        yield from (encoded(picture(), kind, icc_profile=profile) for kind in ("PNG", "JPEG"))
    for exif in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0" + b"\xff" * 300):
        yield from (encoded(picture(), kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP"))
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 500_000, zip=True)
    yield encoded(picture(), "PNG", pnginfo=info)
    yield encoded(picture(), "TIFF", compression="tiff_lzw")
    for tag in (256, 257, 258, 259, 273, 277, 278, 279, 317, 339):
        data = bytearray(encoded(picture(), "TIFF"))
        place = data.find(struct.pack("<H", tag), 8)
        data[place + 4 : place + 12] = b"\xff" * 8
        yield bytes(data)
    for start in (b"GIF89a", b"%PDF-1.7", b"\0\0\0\x18ftypheic", b"<svg/>", b"8BPS", b"PK\3\4"):
        yield start + bytes(100)
    yield from (b"\xff\xd8\xff" + bytes(50), b"RIFF\xff\xff\xff\xffWEBP", b"BM", b"II*\0", b"MM\0*")
    yield from (b"\0", b"\n" * 100, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"{}", bytes(4 * MB))
    yield bytes(4 * MB + 1)
    yield b"BM" + struct.pack("<IIIIiiHH", 100, 0, 54, 40, -2000000000, -2000000000, 1, 24)
    yield b"BM" + struct.pack("<IIIIiiHHI", 100, 0, 54, 40, 9, 9, 1, 8, 1) + bytes(60)


def odd_forms(image: bytes) -> Iterator[Case]:
    """Forms and JSON that are not quite what they should be."""
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    named = b'; filename="a.png"'
    whole = part % (b"image", named, image)
    bodies = [
        whole,
        whole + b"--b--",
        whole + whole + b"--b--\r\n",
        whole.replace(b"name=", b"nam=") + b"--b--\r\n",
        whole.replace(b"\r\n", b"\n") + b"--b--\n",
        part % (b"image", b"", image) + b"--b--\r\n",
        part % (b"image", b'; filename="../../etc/passwd"', image) + b"--b--\r\n",
        part % (b"image", b"; filename*=utf-8''%ff", image) + b"--b--\r\n",
        part % (b"\xff\xfe", b"", b"x") + whole + b"--b--\r\n",
        part % (b"level", b"", b"\xff") + whole + b"--b--\r\n",
        part % (b"level", b"", b"0" * 5000) + whole + b"--b--\r\n",
        (part % (b"expert", b"", b"0")) * 100 + whole + b"--b--\r\n",
        b"--b\r\n" + b"X-A: b\r\n" * 2000 + b"\r\nx\r\n--b--\r\n",
        b"--b\r\n" + b"X" * 9000 + b": b\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n\r\n--b--\r\n",
        b"--b--\r\n",
        b"--c--\r\n",
        b"",
        b"\r\n" * 1000,
    ]
    for body in bodies:
        yield "/v1/route", form(body, "b")
    for boundary in ("", "b" * 5000, '"', "\x7f", "b; charset=nothing", 'b"; boundary="c'):
        yield "/v1/route", form(whole + b"--b--\r\n", boundary)
    encoded_image = base64.b64encode(image).decode()
    values: list[Any] = [
        *(None, 1, [], {}, "", "a", "====", encoded_image[:-3], "é" * 10, "\ud800"),
        *([encoded_image], {"data": encoded_image}, encoded_image + "\n", encoded_image * 2),
    ]
    for value in values:
        yield "/v1/route", as_json(json.dumps({"image": value}).encode())
    texts = (
        *(b"", b"null", b"[]", b'"x"', b"{" * 100_000, b"[" * 900_000, b"1" * 100_000, b"\xff"),
        *(b'{"image": NaN}', b'{"image": 1e999}', b'{"a": 1}', b'{"image"', b"\xef\xbb\xbf{}"),
        b'{"image": "", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    )
    for text in texts:
        yield "/v1/route", as_json(text)
    for own in ({"level": 1e99}, {"level": 10**400}, {"tile": "auto\0"}, {"": 1}, {"x" * 9999: 1}):
        yield "/v1/restore", as_json(json.dumps({"image": encoded_image, **own}).encode())


def form(body: bytes, boundary: str) -> dict[str, Any]:
    kind = b"multipart/form-data; boundary=" + boundary.encode("latin-1", "replace")
    return {"content": body, "headers": {"Content-Type": kind}}


def as_json(body: bytes) -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": "application/json"}}


def odd_options(image: bytes) -> Iterator[Case]:
    """Options and headers that nobody means."""
    values = (
        "",
        "-1",
        "1e3",
        "0x1",
        "\u0661",
        "99999999999999999999",
        "null",
        "0;drop",
        "%00",
        "a" * 5000,
    )
    for name, value in itertools.product(("level", "expert", "tile", "quality"), values):
        yield f"/v1/restore?{name}={value}", {"content": image}
    for query in (
        *("unknown=1", "level", "&&&", "=", "level=0&level=0", "__proto__=1", "image=x", "%ff=%fe"),
        *("format=", "format=../x", "format=svg", "explain=", "confidence=2.0", "tile=0"),
        *("instruction=,", "instruction=%00", f"instruction={'rain,' * 500}", "instruction=RAIN"),
        *("url=http://127.0.0.1/", "image_url=file:///etc/passwd", "level=0&confidence=0"),
    ):
        yield f"/v1/restore?{query}", {"content": image}
    for header in (
        {"Accept": "nothing"},
        {"Accept": "image/png;q=zzz, ;;;,"},
        {"Accept": "," * 5000},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": ";" * 1000},
        {"Content-Type": "application/json; charset=nothing"},
        {"Content-Encoding": "gzip"},
        {"X-Request-Id": "\x01\x02"},
        {"X-Request-Id": "a" * 5000},
        {"Idempotency-Key": "\t"},
        {"Range": "bytes=0-9999999999"},
    ):
        yield "/v1/restore", {"content": image, "headers": header}
    for path in ("/v1/jobs/%00", "/v1/jobs/../../x", f"/v1/jobs/{'a' * 5000}", "/v1/models/%ff"):
        yield path, {"method": "GET"}
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "HEAD", "NONSENSE"):
        yield "/v1/restore", {"method": method, "content": image}


def cases() -> list[Case]:
    image = encoded(picture(), "PNG")
    files = [*broken_files(), *odd_files()]
    return [
        *(("/v1/restore", {"content": file}) for file in files),
        *odd_forms(image),
        *odd_options(image),
    ]


@pytest.fixture(scope="module")
def hostile(asker: Any, restorer: Restorer) -> Any:
    """Asks an application with small limits."""
    return asker(create_app(LocalEngine(restorer), HttpConfig(limits=LIMITS)))


async def send(client: httpx.AsyncClient, case: Case) -> httpx.Response:
    path, request = case
    return await client.request(request.get("method", "POST"), path, **without_method(request))


def without_method(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != "method"}


def check(answer: httpx.Response) -> None:
    """A success, or a mistake of the caller's that is named; nothing is overloaded by it."""
    if answer.status_code == 200:
        assert answer.content
        return
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.status_code != 429
    if answer.request.method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@pytest.mark.slow
def test_three_hundred_hostile_requests_are_answered_and_a_valid_one_after_them(
    hostile: Any, restorer: Restorer
) -> None:
    every = cases()
    assert len(every) >= 300

    async def all_of_them() -> httpx.Response:
        async with hostile.client() as client:
            for case in every:
                try:
                    check(await send(client, case))
                except Exception as error:
                    error.add_note(f"case {case[0][:100]} {str(case[1])[:300]}")
                    raise
            return await client.post("/v1/restore", content=encoded(picture(), "PNG"))

    answer = asyncio.run(all_of_them())
    expected = restorer.restore(np.array(picture())).image
    assert np.array_equal(decode_u8(answer.content), expected)


def test_what_comes_in_pieces_and_stops_is_forgotten(hostile: Any) -> None:
    async def breaks_off() -> AsyncIterator[bytes]:
        yield encoded(picture(), "PNG")[:50]
        raise ConnectionError("the caller is gone")

    async def ask() -> None:
        async with hostile.client() as client:
            with pytest.raises(ConnectionError):
                await client.post("/v1/restore", content=breaks_off())
            good = await client.post("/v1/restore", content=encoded(picture(), "PNG"))
            assert good.status_code == 200

    asyncio.run(ask())


SEEDS = [encoded(picture(), kind) for kind in FORMATS]


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A file of which pieces are changed, doubled, dropped or cut off."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(("set", "insert", "drop", "cut", "double")))
        if kind == "set":
            own = draw(st.binary(min_size=1, max_size=8))
            data[place : place + len(own)] = own
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=64))
        elif kind == "drop":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "double":
            data += data[place : place + 500]
        else:
            del data[max(1, place) :]
        if not data:
            break
    return bytes(data)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / MB


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_spoiled_files_and_hostile_requests_leave_memory_as_it_was(hostile: Any) -> None:
    every = cases()

    async def once() -> None:
        async with hostile.client() as client:
            for case in every:
                check(await send(client, case))

    @settings(max_examples=1000, suppress_health_check=list(HealthCheck))
    @given(spoiled())
    def spoil(data: bytes) -> None:
        check(hostile("POST", "/v1/restore", content=data))

    large = encoded(picture(size=(1000, 1000)), "PNG")
    for _ in range(3):
        assert hostile("POST", "/v1/restore", content=large).status_code == 200
    gc.collect()
    baseline = resident_mb()
    for _ in range(3):
        asyncio.run(once())
    spoil()
    gc.collect()
    assert resident_mb() < baseline + MORE_MB


def test_with_keys_nothing_is_read_of_a_stranger(asker: Any, restorer: Restorer) -> None:
    config = HttpConfig(keys=(Key(name="alice", sha256="0" * 64),), limits=LIMITS)
    ask = asker(create_app(LocalEngine(restorer), config))
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * MB:
            sent += 1 << 16
            yield bytes(1 << 16)

    ask.problem(ask("POST", "/v1/restore", content=endless()), 401, "no-key")
    assert sent <= 2 << 16
