"""XMP is followed where EXIF is silent, and says nothing afterwards that is no longer so."""

import time
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from expertree.images.xmp import upright_xmp, xmp_orientation
from photographs import again, encoded, opened, photo_u8, plain, png_with, read


def packet(orientation: int, *, mark: str = "'") -> bytes:
    return f"<x:xmpmeta><rdf tiff:Orientation={mark}{orientation}{mark}/></x:xmpmeta>".encode()


def with_xmp(fmt: str, xmp: bytes, **options) -> bytes:
    if fmt == "png":
        data = plain("png", **options)
        return png_with(data, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    if fmt == "tiff":
        return plain("tiff", tiffinfo={700: xmp}, **options)
    return plain(fmt, xmp=xmp, **({"quality": 100, "subsampling": 0} if fmt == "jpeg" else options))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "tiff"])
def test_a_photograph_that_only_xmp_says_is_turned_is_turned_once(fmt, orientation) -> None:
    data = with_xmp(fmt, packet(orientation))
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    image = PillowImage.fromarray(photo_u8())
    expected = np.array(ImageOps.exif_transpose(opened(encoded(image, "PNG", exif=exif))))
    found = read(data)
    assert np.abs(found.colour.astype(int) - expected).max() <= (16 if fmt == "jpeg" else 0)
    written = again(data)
    assert b"tiff:Orientation='1'" in written
    assert opened(written).size == expected.shape[1::-1]
    np.testing.assert_array_equal(read(written).colour.shape, expected.shape)


@pytest.mark.parametrize("fmt", ["png", "webp"])
def test_exif_counts_before_xmp(fmt: str) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 1
    data = with_xmp(fmt, packet(6), exif=exif.tobytes())
    np.testing.assert_array_equal(read(data).colour, photo_u8())


def test_a_compressed_packet_of_a_png_is_followed_too() -> None:
    head = b"XML:com.adobe.xmp\0\1\0\0\0"
    data = png_with(plain("png"), (b"iTXt", head + zlib.compress(packet(6))))
    written = again(data)
    assert opened(written).size == (24, 36)
    assert opened(written).info["xmp"] == packet(1)
    broken = read(png_with(plain("png"), (b"iTXt", head + b"rubbish")))
    np.testing.assert_array_equal(broken.colour, photo_u8())
    assert broken.notes == ("its XMP cannot be read and was left out",)


def test_exif_without_an_orientation_leaves_the_turn_to_xmp() -> None:
    exif = PillowImage.Exif()
    exif[0x8769] = {0xA002: 36, 0xA003: 24}
    written = opened(again(with_xmp("png", packet(6), exif=exif.tobytes())))
    assert written.size == (24, 36)
    details = written.getexif().get_ifd(0x8769)
    assert (details[0xA002], details[0xA003]) == (24, 36)


@pytest.mark.parametrize(
    "text",
    [
        b'tiff:Orientation="6"',
        b"tiff:Orientation = '6'",
        b"<tiff:Orientation>6</tiff:Orientation>",
        b"<tiff:Orientation>\n 6 </tiff:Orientation>",
    ],
)
def test_an_orientation_is_found_however_it_is_written(text: bytes) -> None:
    assert xmp_orientation(text) == 6
    assert xmp_orientation(upright_xmp(text)) == 1
    assert xmp_orientation(text.replace(b"6", b"9")) == 1


def test_sides_change_places_only_with_a_quarter_turn() -> None:
    xmp = b'<a exif:PixelXDimension="36" exif:PixelYDimension="240" tiff:Orientation="6"/>'
    assert b'PixelXDimension="240" exif:PixelYDimension="36"' in upright_xmp(xmp, 6)
    assert b'PixelXDimension="36" exif:PixelYDimension="240"' in upright_xmp(xmp, 3)


def test_thumbnails_and_marks_of_parts_that_are_gone_go() -> None:
    kept = b'dc:title="Dune" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
    xmp = (
        b"<rdf " + kept + b' GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="12" hdrgm:Version='
        b"'1.0'><xmp:Thumbnails><rdf:Alt><rdf:li xmpGImg:image='/9j'/></rdf:Alt></xmp:Thumbnails>"
        b"<Container:Directory><rdf:Seq><Item Item:Semantic='MotionPhoto'/></rdf:Seq>"
        b"</Container:Directory><GCamera:MicroVideo>1</GCamera:MicroVideo></rdf>"
    )
    assert upright_xmp(xmp) == b"<rdf " + kept + b"></rdf>"


def test_elements_within_each_other_go_and_what_is_not_closed_stays() -> None:
    nested = b"<xmp:Thumbnails><hdrgm:A>1</hdrgm:A><hdrgm:B/></xmp:Thumbnails>"
    assert upright_xmp(b"<a>" + nested + b"</a>") == b"<a></a>"
    assert upright_xmp(b"<a><hdrgm:B x='1' /><b/></a>") == b"<a><b/></a>"
    assert upright_xmp(b"<a><hdrgm:A><b/><hdrgm:B>2</hdrgm:B></a>") == b"<a><hdrgm:A><b/></a>"
    assert upright_xmp(b"</hdrgm:A><hdrgm:AB>") == b"</hdrgm:A><hdrgm:AB>"


@pytest.mark.parametrize(
    "part",
    [
        b"<xmp:Thumbnails>",
        b"<xmp:Thumbnails ",
        b"<xmp:Thumbnails/",
        b"</xmp:Thumbnails ",
        b"<hdrgm:%d>",
        b"<hdrgm:%d></hdrgm:%d>",
        b" hdrgm:%d",
        b" hdrgm:V=\"'",
        b" hdrgm:V=",
        b"<aCamera:",
        b"Camera",
        b"hdrgm:V ",
        b" ",
        b"tiff:Orientation ",
        b'exif:PixelXDimension="1',
    ],
)
def test_no_packet_takes_longer_than_its_length_explains(part: bytes) -> None:
    parts = (part.replace(b"%d", b"%d" % number) for number in range((1 << 19) // len(part)))
    hostile = b"".join(parts)
    begin = time.process_time()
    upright_xmp(hostile, 6)
    assert time.process_time() - begin < 2
