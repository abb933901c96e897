"""What a photograph's file says beside its pixels is kept, and turned where it must be."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from expertree.images.photo_file import notes_for, write_photo
from photographs import (
    again,
    by_opencv,
    encoded,
    exif_block,
    matrix_profile,
    opened,
    photo_u8,
    photo_u16,
    plain,
    png_with,
    read,
    srgb_profile,
)


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "tiff"])
def test_exif_is_kept_and_its_thumbnail_is_not(fmt: str) -> None:
    block = exif_block(6, thumbnail=fmt != "tiff")
    written = opened(again(plain(fmt, exif=block)))
    exif, expected = written.getexif(), PillowImage.Exif()
    expected.load(block)
    assert exif[0x010F] == "A maker"
    details, before = exif.get_ifd(0x8769), expected.get_ifd(0x8769)
    assert details[0x9003] == before[0x9003]
    assert details[0x829A] == before[0x829A]
    assert details[0x927C] == before[0x927C]
    assert (details[0xA002], details[0xA003]) == (24, 36)
    assert exif.get_ifd(0x8825) == expected.get_ifd(0x8825)
    assert exif.get_ifd(1) == {} if fmt != "tiff" else True
    assert encoded(PillowImage.new("RGB", (8, 8), "red"), "JPEG") not in written.info.get(
        "exif", b""
    )


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp"])
def test_exif_of_an_upright_photograph_is_kept_byte_by_byte(fmt: str) -> None:
    block = exif_block(1)
    kept = opened(again(plain(fmt, exif=block))).info["exif"]
    assert kept.removeprefix(b"Exif\0\0") == block.removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("broken", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0rubbish"])
def test_broken_exif_is_left_out_with_a_note(fmt: str, broken: bytes) -> None:
    data = plain("jpeg", exif=broken) if fmt == "jpeg" else None
    if fmt == "png":
        data = png_with(plain("png"), (b"eXIf", broken[6:]))
    photo = read(data if data is not None else plain("webp", exif=broken))
    assert photo.metadata.exif is None
    assert any("EXIF" in note for note in photo.notes)
    assert photo.colour.shape == (24, 36, 3)


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "tiff"])
def test_xmp_is_kept_and_says_upright(fmt: str) -> None:
    xmp = b'<x:xmpmeta><rdf tiff:Orientation="6" dc:title="Dune"/></x:xmpmeta>'
    upright = xmp.replace(b'"6"', b'"1"')
    if fmt == "png":
        packet = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
        data = png_with(plain("png"), (b"iTXt", packet))
    elif fmt == "tiff":
        data = plain("tiff", tiffinfo={700: xmp})
    else:
        data = plain(fmt, xmp=xmp)
    assert opened(again(data)).info["xmp"].rstrip(b"\0") == upright


@pytest.mark.parametrize("fmt", ["jpeg", "png", "tiff", "bmp"])
def test_resolution_is_kept(fmt: str) -> None:
    dpi = opened(again(plain(fmt, dpi=(300, 150)))).info["dpi"]
    assert tuple(round(float(side)) for side in dpi) == (300, 150)


def test_text_and_gamma_of_a_png_are_kept() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Dune")
    text.add_itxt("Ort", "Zürich", lang="de")
    data = png_with(plain("png", pnginfo=text), (b"gAMA", struct.pack(">I", 45455)))
    info = opened(again(data)).info
    assert (info["Title"], info["Ort"], info["Ort"].lang) == ("Dune", "Zürich", "de")
    assert info["gamma"] == pytest.approx(0.45455)


def raw_profile(kind: bytes, block: bytes, *, keyword: bytes = b"exif") -> tuple[bytes, bytes]:
    """A chunk of text with a block in hexadecimal lines, as ImageMagick and exiv2 write it."""
    code = block.hex().encode()
    lines = [b"", keyword, b"%8d" % len(block)]
    text = b"\n".join([*lines, *(code[at : at + 72] for at in range(0, len(code), 72)), b""])
    heads = {b"tEXt": b"", b"zTXt": b"\0", b"iTXt": b"\1\0\0\0"}
    body = text if kind == b"tEXt" else zlib.compress(text)
    return kind, b"Raw profile type " + keyword + b"\0" + heads[kind] + body


@pytest.mark.parametrize("keyword", [b"exif", b"APP1"])
@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_exif_in_a_text_of_a_png_is_followed_and_kept(kind: bytes, keyword: bytes) -> None:
    photo = read(png_with(plain("png"), raw_profile(kind, exif_block(6), keyword=keyword)))
    assert (photo.width_px, photo.height_px) == (24, 36)
    assert photo.notes == ()
    exif = opened(write_photo(photo, photo.tensor())).getexif()
    assert (exif[0x010F], exif.get(0x0112, 1)) == ("A maker", 1)


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        (b"tEXt", b"rubbish"),
        (b"tEXt", b"\nexif\n 4\nzz"),
        (b"zTXt", b"\0rubbish"),
        (b"zTXt", b""),
        (b"iTXt", b"\1\0\0\0rubbish"),
    ],
)
def test_exif_in_a_text_that_cannot_be_read_is_told(kind: bytes, rest: bytes) -> None:
    photo = read(png_with(plain("png"), (kind, b"Raw profile type exif\0" + rest)))
    assert photo.metadata.exif is None
    assert photo.notes == ("its EXIF cannot be read and was left out",)


def test_xmp_in_a_text_of_a_png_is_not_taken_for_exif() -> None:
    block = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
    chunk = raw_profile(b"zTXt", block, keyword=b"APP1")
    photo = read(png_with(plain("png"), chunk))
    assert (photo.metadata.exif, photo.notes) == (None, ())
    assert photo.metadata.png_chunks == (chunk,)


_MUCH = zlib.compress(bytes(9_000_000))


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        (b"iCCP", b"x\0\0" + _MUCH),
        (b"zTXt", b"x\0\0" + _MUCH),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + _MUCH),
        (b"zTXt", b"x\0\7rubbish"),
        (b"iCCP", b"x\0\7rubbish"),
        (b"tEXt", b"x" * 9_000_000),
        (b"pHYs", b"\0\1"),
        (b"gAMA", b"\0"),
        (b"sRGB", b""),
    ],
)
@pytest.mark.parametrize("depth", [8, 16])
def test_no_chunk_beside_the_picture_makes_a_png_damaged(name, payload, depth) -> None:
    data = plain("png") if depth == 8 else by_opencv(".png", photo_u16())
    photo = read(png_with(data, (name, payload)))
    np.testing.assert_array_equal(photo.colour, read(data).colour)
    assert photo.metadata.dpi is None
    assert photo.notes == ()


@pytest.mark.parametrize(
    ("marker", "payload"),
    [
        (0xE0, b"JFIF\0"),
        (0xE0, b"JFIF\0\1\1\0\0"),
        (0xEE, b"Adobe"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0"),
    ],
)
def test_no_segment_that_is_cut_short_makes_a_jpeg_damaged(marker: int, payload: bytes) -> None:
    data = plain("jpeg")
    short = struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
    np.testing.assert_array_equal(read(data[:2] + short + data[2:]).colour, read(data).colour)


def test_comments_and_iptc_of_a_jpeg_are_kept() -> None:
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02\x05\0\x05Dune!"
    extra = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    written = opened(again(plain("jpeg", extra=extra, comment=b"by hand")))
    assert written.info["comment"] == b"by hand"
    assert ("APP13", iptc) in written.applist


# Other formats than the photograph's own.


@pytest.mark.parametrize("target", ["png", "jpeg", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("source", ["png", "jpeg", "webp", "tiff"])
def test_metadata_travels_between_formats(source: str, target: str) -> None:
    profile = srgb_profile()
    data = plain(source, exif=exif_block(1), icc_profile=profile)
    written = opened(again(data, format=target))
    assert written.format.lower() == target
    if target != "bmp":
        assert written.info["icc_profile"] == profile
        assert written.getexif()[0x010F] == "A maker"
        assert written.getexif().get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"


def test_the_profile_of_a_png_counts_before_its_srgb() -> None:
    profile = matrix_profile(primaries="p3")
    data = png_with(plain("png", icc_profile=profile), (b"sRGB", b"\0"))
    written = again(data)
    assert opened(written).info["icc_profile"] == profile
    assert b"sRGB" not in written
    np.testing.assert_array_equal(np.array(opened(written)), photo_u8())
    assert b"sRGB" in again(png_with(plain("png"), (b"sRGB", b"\0")))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_the_profile_of_a_bmp_is_kept(mode: str) -> None:
    profile = matrix_profile(primaries="p3", space=b"GRAY" if mode == "L" else b"RGB ")
    image = PillowImage.fromarray(photo_u8()).convert(mode)
    bmp = again(plain("png", image, icc_profile=profile, dpi=(300, 150)), format="bmp")
    photo = read(bmp)
    assert photo.metadata.icc == profile
    assert [round(side) for side in photo.metadata.dpi] == [300, 150]
    assert read(again(bmp)).metadata.icc == profile
    np.testing.assert_array_equal(np.array(opened(again(bmp)).convert(mode)), np.array(image))
    if mode != "L":
        assert not photo.is_srgb


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "tiff"])
def test_all_that_says_width_and_height_is_turned(fmt: str) -> None:
    exif = PillowImage.Exif()
    exif[0x0112], exif[0x011A], exif[0x011B] = 6, 300.0, 150.0
    if fmt != "tiff":
        exif[0x0100], exif[0x0101] = 36, 24
    exif[0x8769] = {0xA002: 36, 0xA003: 24}
    resolution = {} if fmt == "webp" else {"dpi": (300, 150)}
    written = opened(again(plain(fmt, exif=exif.tobytes(), **resolution)))
    found = written.getexif()
    details = found.get_ifd(0x8769)
    assert (details[0xA002], details[0xA003]) == (24, 36)
    assert (found[0x011A], found[0x011B]) == (150, 300)
    assert (found[0x0100], found[0x0101]) == (24, 36)
    if resolution:
        assert [round(float(side)) for side in written.info["dpi"]] == [150, 300]


def test_what_a_format_does_not_hold_is_told() -> None:
    exif, text = exif_block(1), PngImagePlugin.PngInfo()
    text.add_text("Title", "Dune")
    photo = read(plain("png", pnginfo=text, exif=exif))
    assert notes_for(photo, None) == ()
    assert notes_for(photo, "webp") == ("its text left out, which WEBP does not hold",)
    assert notes_for(photo, "bmp") == ("its EXIF, text left out, which BMP does not hold",)
    assert notes_for(read(plain("jpeg", comment=b"by hand")), "png") == (
        "its comments or data of applications left out, which PNG does not hold",
    )
    deep = read(by_opencv(".png", photo_u16()))
    assert notes_for(deep, "tiff") == ()
    assert notes_for(deep, "jpeg") == ("its 16 bits a channel became 8",)
