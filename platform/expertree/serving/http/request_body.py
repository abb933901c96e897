"""Read the image's bytes and the options of a request, from any of three kinds of body.

A raw body is the image. A form has it in the field `image`, JSON in base64 under `image`; the other
fields are options. The format of the image is told by its first bytes. Nothing goes to disk.
"""

import asyncio
import base64
import binascii
import dataclasses
import json
import zlib
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from expertree.serving.budget import MemoryShare
from expertree.serving.http.problems import ProblemError
from expertree.serving.settings import Limits

Fields = list[tuple[str, str]]
"""Names and values of options in the order given; a name may come several times."""

MAX_FIELDS = 32
"""Most fields of a form or of JSON."""

MAX_FIELD_BYTES = 4096
"""Most bytes of an option's value, and of the name or value of a part's header."""

_DEFLATED = frozenset({"gzip", "x-gzip", "deflate"})
_FROM_URL_SAFE = str.maketrans("-_", "+/")
_ANY_HEADER = 32 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """The content of a request's body.

    Attributes:
        image: The image's file.
        fields: Options beside the image.
    """

    image: bytes
    fields: Fields


async def read_body(request: Request, limits: Limits, share: MemoryShare) -> Body:
    """Read a request's body and split it into image and options.

    Args:
        request: Request whose body has not been read yet.
        limits: Limits on the size and slowness of the body.
        share: The request's share of the memory, which grows with the body.

    Raises:
        ProblemError: If it is too large, too slow, coded in a way that is not read, or not what its
            content type says.
        OverloadError: If memory is short.
    """
    coded = await _receive(request, limits, share)
    coding = request.headers.get("content-encoding", "").strip().lower()
    data = await _decoded(coded, coding, limits, share)
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        share.grow(len(data))
        body = await asyncio.to_thread(_from_form, data, content_type)
    elif kind == "application/json":
        share.grow(2 * len(data))
        body = await asyncio.to_thread(_from_json, data)
    else:
        body = Body(image=data, fields=[])
    if not body.image:
        raise ProblemError("bad-request", "The image is empty; send its file as the body.")
    return body


async def _receive(request: Request, limits: Limits, share: MemoryShare) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.max_body_bytes:
        raise _too_large(limits)
    received = bytearray()
    begin = asyncio.get_running_loop().time() + limits.body_grace_s
    try:
        async with asyncio.timeout_at(begin) as patience:
            async for chunk in request.stream():
                received += chunk
                if len(received) > limits.max_body_bytes:
                    raise _too_large(limits)
                share.grow(len(chunk))
                patience.reschedule(begin + len(received) / limits.min_body_bytes_per_s)
    except TimeoutError:
        raise ProblemError(
            "slow-body",
            f"Only {len(received):,} bytes came in; at least {limits.min_body_bytes_per_s:,.0f} a "
            "second are expected.",
            headers={"Connection": "close"},
        ) from None
    return bytes(received)


async def _decoded(data: bytes, coding: str, limits: Limits, share: MemoryShare) -> bytes:
    """Undo the coding of a body (RFC 9110, section 8.4), as far as the limits allow."""
    if coding in {"", "identity"}:
        return data
    if coding not in _DEFLATED:
        raise ProblemError(
            "unsupported-format",
            f"The body's Content-Encoding {coding[:40]!r} is not read; send it with gzip or as it "
            "is.",
            headers={"Accept-Encoding": "gzip, deflate, identity"},
        )
    inflater, found, rest = zlib.decompressobj(_ANY_HEADER), bytearray(), data
    try:
        while not inflater.eof:
            piece = inflater.decompress(rest, _PIECE_BYTES)
            if not (piece or inflater.unconsumed_tail or inflater.eof):
                raise ProblemError("bad-request", f"The body's {coding} ends before its end.")
            rest, found = inflater.unconsumed_tail, found + piece
            if len(found) > limits.max_body_bytes:
                raise _too_large(limits)
            share.grow(len(piece))
            await asyncio.sleep(0)
    except zlib.error as error:
        raise ProblemError("bad-request", f"The body is not {coding}: {error}.") from error
    return bytes(found)


def _too_large(limits: Limits) -> ProblemError:
    return ProblemError(
        "too-large",
        f"More than {limits.max_body_bytes:,} bytes; send a smaller file, or the image itself in "
        "place of JSON.",
        headers={"Connection": "close"},
    )


class _Form:
    """The parts of a multipart form, held in memory."""

    def __init__(self) -> None:
        self.images: list[bytearray] = []
        self.fields: list[tuple[str, bytearray]] = []
        self.is_whole = False
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._target: bytearray | None = None

    def part_begins(self) -> None:
        """Begin a part; its headers come first."""
        self._disposition, self._target = b"", None

    def header_name(self, data: bytes, start: int, end: int) -> None:
        """Add a piece of a header's name."""
        self._name += _bounded(data[start:end], self._name)

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """Add a piece of a header's value."""
        self._value += _bounded(data[start:end], self._value)

    def header_ends(self) -> None:
        """End a header; `Content-Disposition` is kept."""
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def headers_end(self) -> None:
        """End a part's headers, and choose where the content that follows goes."""
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if name is None:
            raise _bad_form("a part has no name")
        self._target = bytearray()
        if name == b"image":
            self.images.append(self._target)
        else:
            self.fields.append((_text(name), self._target))
        if len(self.images) > 1 or len(self.fields) > MAX_FIELDS:
            raise _bad_form(f"one image and at most {MAX_FIELDS} options are taken")

    def content(self, data: bytes, start: int, end: int) -> None:
        """Add a piece of a part's content."""
        target = self._target
        if target is None:
            raise _bad_form("a part has no headers")
        is_image = bool(self.images) and target is self.images[-1]
        piece = data[start:end]
        target += piece if is_image else _bounded(piece, target)

    def end(self) -> None:
        """Note that the last boundary was there."""
        self.is_whole = True


def _from_form(data: bytes, content_type: str) -> Body:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise _bad_form("its content type names no boundary")
    form = _Form()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.part_begins,
                "on_part_data": form.content,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_ends,
                "on_headers_finished": form.headers_end,
                "on_end": form.end,
            },
        )
        parser.write(data)
        parser.finalize()
    except FormParserError as error:
        raise _bad_form(str(error)) from error
    if not form.is_whole:
        raise _bad_form("it ends before its last boundary")
    if not form.images:
        raise _bad_form("it has no field 'image'")
    fields = [(name, _text(bytes(value))) for name, value in form.fields]
    return Body(image=bytes(form.images[0]), fields=fields)


def _from_json(data: bytes) -> Body:
    try:
        pairs = json.loads(data, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise ProblemError("bad-request", f"The body is not JSON: {error}.") from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise ProblemError("bad-request", "The body is JSON, but not an object.")
    images = [value for name, value in pairs if name == "image"]
    if len(images) != 1 or not isinstance(images[0], str):
        raise ProblemError("bad-request", "The object needs one `image`: its file in base64.")
    if len(pairs) > MAX_FIELDS:
        raise ProblemError("bad-request", f"The object has more than {MAX_FIELDS} members.")
    try:
        image = _from_base64(images[0])
    except (binascii.Error, ValueError) as error:
        raise ProblemError("bad-request", f"`image` is not base64: {error}.") from error
    fields: Fields = []
    for name, value in pairs:
        if name != "image" and value is not None:
            fields += [(name, _plain(name, own)) for own in _values(name, value)]
    return Body(image=image, fields=fields)


def _from_base64(text: str) -> bytes:
    """Decode base64 as programs write it: in lines, as a data URL (RFC 2397), or URL-safe."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    letters = "".join(text.split()).rstrip("=").translate(_FROM_URL_SAFE)
    return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)


def _values(name: str, value: object) -> list[object]:
    """Return the values of an option; only an instruction may be a list of them."""
    return value if name == "instruction" and isinstance(value, list) else [value]


def _plain(name: str, value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """Return a value of JSON as text, as a form would have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return str(value)[:MAX_FIELD_BYTES]
    raise ProblemError("bad-option", "Its value is neither text nor a number.", option=name[:40])


def _bounded(piece: bytes, before: bytearray) -> bytes:
    if len(before) + len(piece) > MAX_FIELD_BYTES:
        raise _bad_form(f"an option or a header has more than {MAX_FIELD_BYTES} bytes")
    return piece


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _bad_form(why: str) -> ProblemError:
    return ProblemError("bad-request", f"The form cannot be read: {why}.")
