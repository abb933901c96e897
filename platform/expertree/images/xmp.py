"""Reading and patching XMP packets where they lie: what is not changed stays byte by byte."""

import re
from collections.abc import Mapping

_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])(?=\s*[\"'<])")
_SIDES = (
    (b"tiff:ImageWidth", b"tiff:ImageLength"),
    (b"tiff:XResolution", b"tiff:YResolution"),
    (b"exif:PixelXDimension", b"exif:PixelYDimension"),
    (b"exif:FocalPlaneXResolution", b"exif:FocalPlaneYResolution"),
)
"""Properties that change places where a picture is turned by a quarter."""

_THUMBNAILS = (rb"xmp:Thumbnails", rb"xap:Thumbnails")
_FURTHER_PARTS = (
    rb"\w*Camera:(?:MotionPhoto|MicroVideo)\w*",
    rb"G?Container:Directory",
    rb"hdrgm:\w+",
    rb"HDRGainMap:\w+",
)
"""Properties by which viewers look for a video, a gain map or a list of both behind the picture
(Android's Motion Photo format 1.0 and Ultra HDR format 1.1, Apple's HDR gain map)."""

_GOES = rb"(?:" + rb"|".join((*_THUMBNAILS, *_FURTHER_PARTS)) + rb")"
_TAG = re.compile(rb"<(/?)(" + _GOES + rb")(?:\s[^<>]*|/)?>")
_ATTRIBUTE = re.compile(rb"\s" + _GOES + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_MAX_OPEN = 1000
"""Most elements that are looked at within each other, since a packet may be made to hold many."""


def xmp_orientation(packet: bytes) -> int:
    """Return the orientation that a packet asks for, 1 to 8; 1 if it asks for none."""
    found = _ORIENTATION.search(packet)
    return 1 if found is None else int(found[2])


def said_upright(packet: bytes) -> bytes:
    """Return the packet with its orientation set to 1, and as long as before."""
    return _ORIENTATION.sub(rb"\g<1>1", packet)


def upright_xmp(packet: bytes, orientation: int = 1) -> bytes:
    """Return the packet for pixels that have been turned upright.

    Its orientation, which some viewers follow, becomes 1; width and height change places where the
    sides did. What shows or points to what is not written again goes: thumbnails, and marks of a
    video or gain map behind the picture.

    Args:
        packet: The packet.
        orientation: EXIF's number of the turn that was applied to the pixels.
    """
    packet = _ATTRIBUTE.sub(b"", _without_elements(said_upright(packet)))
    if orientation < 5:
        return packet
    for names in _SIDES:
        across, down = (_value_of(packet, name) for name in names)
        if across is not None and down is not None:
            packet = _replaced(packet, {names[0]: down, names[1]: across})
    return packet


def _without_elements(packet: bytes) -> bytes:
    """Return a packet without the elements that go, in one pass however they are nested."""
    opened: dict[bytes, int] = {}
    spans: list[tuple[int, int]] = []
    for tag in _TAG.finditer(packet):
        is_closing, name = bool(tag[1]), tag[2]
        if is_closing and name in opened:
            start = opened[name]
            while opened and next(reversed(opened.values())) >= start:
                opened.popitem()
        elif not is_closing and tag[0].endswith(b"/>"):
            start = tag.start()
        else:
            if not is_closing and len(opened) < _MAX_OPEN:
                opened.setdefault(name, tag.start())
            continue
        while spans and spans[-1][0] > start:
            spans.pop()
        spans.append((start, tag.end()))
    ends = (0, *(stop for _, stop in spans))
    starts = (*(start for start, _ in spans), len(packet))
    return b"".join(packet[end:start] for end, start in zip(ends, starts, strict=True))


def _value_of(packet: bytes, name: bytes) -> bytes | None:
    found = _number(name).search(packet)
    return None if found is None else found[2]


def _replaced(packet: bytes, values: Mapping[bytes, bytes]) -> bytes:
    for name, value in values.items():
        packet = _number(name).sub(rb"\g<1>" + value, packet)
    return packet


def _number(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(" + name + rb"\s*(?:=\s*[\"']|>)\s*)([0-9]+(?:/[0-9]+)?)")
