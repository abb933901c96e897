"""A user's photograph survives: what the network gets, and what is written again."""

import dataclasses
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from PIL import ImageOps, PngImagePlugin
from skimage.metrics import peak_signal_noise_ratio

from expertree.images.photo_file import Photo, notes_for, write_photo
from photographs import (
    again,
    by_opencv,
    encoded,
    matrix_profile,
    opened,
    photo_u8,
    photo_u16,
    plain,
    png_with,
    read,
    srgb_profile,
)

LOSSLESS = ["png", "bmp", "tiff", "webp"]


def exif_block(orientation: int | None = None, *, thumbnail: bool = False) -> bytes:
    """A camera's EXIF, with prefix: maker, time, exposure, place, and a thumbnail if asked for."""
    exif = PillowImage.Exif()
    exif[0x010F] = "A maker"
    if orientation is not None:
        exif[0x0112] = orientation
    exif[0x8769] = {
        0x9003: "2024:05:06 07:08:09",
        0x829A: 0.004,
        0x927C: b"NOTE" + bytes(range(64)),
        0xA002: 36,
        0xA003: 24,
    }
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 12.5)}
    block = exif.tobytes()
    return with_thumbnail(block) if thumbnail else block


def with_thumbnail(block: bytes) -> bytes:
    """Append a second directory with a small JPEG."""
    tiff = bytearray(block[6:])
    order = "<" if tiff[:2] == b"II" else ">"
    small = encoded(PillowImage.new("RGB", (8, 8), "red"), "JPEG")
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    start = len(tiff)
    struct.pack_into(f"{order}I", tiff, first + 2 + 12 * count, start)
    entries = [(0x0103, 3, 6), (0x0201, 4, start + 2 + 36 + 4), (0x0202, 4, len(small))]
    tiff += struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        body = struct.pack(f"{order}HH" if kind == 3 else f"{order}I", *([value, 0][: 5 - kind]))
        tiff += struct.pack(f"{order}HHI", tag, kind, 1) + body
    tiff += struct.pack(f"{order}I", 0) + small
    return block[:6] + bytes(tiff)


def pixels_of(photo: Photo) -> np.ndarray:
    return photo.colour if photo.alpha is None else np.dstack([photo.colour, photo.alpha])


# What the network gets.


@pytest.mark.parametrize("fmt", LOSSLESS)
def test_the_network_gets_the_pixels_that_are_there(fmt: str) -> None:
    tensor = read(plain(fmt)).tensor()
    assert tensor.dtype == torch.float32
    expected = photo_u8().transpose(2, 0, 1).astype(np.float32) / 255
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_reach_the_network(suffix: str) -> None:
    photo = read(by_opencv(suffix, photo_u16()))
    assert photo.depth == 16
    expected = photo_u16().transpose(2, 0, 1) / 65535
    np.testing.assert_allclose(photo.tensor().numpy(), expected, rtol=0, atol=1e-7)


def test_grey_fills_three_channels() -> None:
    photo = read(plain("png", PillowImage.fromarray(photo_u8()).convert("L")))
    assert photo.is_grey
    assert photo.colour.shape == (24, 36, 1)
    tensor = photo.tensor()
    assert tensor.shape == (3, 24, 36)
    assert torch.equal(tensor[0], tensor[2])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["png", "webp", "tiff"])
def test_the_orientation_is_applied_once(fmt: str, orientation: int) -> None:
    data = plain(fmt, exif=exif_block(orientation))
    expected = np.array(ImageOps.exif_transpose(opened(plain("png", exif=exif_block(orientation)))))
    np.testing.assert_array_equal(read(data).colour, expected)
    written = again(data)
    np.testing.assert_array_equal(np.array(ImageOps.exif_transpose(opened(written))), expected)
    assert opened(written).getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(read(written).colour, expected)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_the_orientation_of_sixteen_bits_is_applied_once(suffix: str, orientation: int) -> None:
    photo = read(by_opencv(suffix, photo_u16()))
    exif = exif_block(orientation)[6:]
    turned = dataclasses.replace(photo, metadata=dataclasses.replace(photo.metadata, exif=exif))
    data = write_photo(turned, turned.tensor())  # claims an orientation that is yet to be applied
    if (
        suffix == ".tiff"
    ):  # there it stands in the file's own tags, which `write_photo` never writes
        data = tiff_with_orientation(data, orientation)
    expected = np.rot90(photo_u16(), {3: 2, 6: -1}[orientation])
    np.testing.assert_array_equal(read(data).colour, expected)
    np.testing.assert_array_equal(read(again(data)).colour, expected)


def tiff_with_orientation(data: bytes, orientation: int) -> bytes:
    """Make the tag of planar configuration (which has its default) the orientation."""
    entry = data.index(struct.pack("<HHIH", 284, 3, 1, 1))
    return data[:entry] + struct.pack("<HHIH", 274, 3, 1, orientation) + data[entry + 10 :]


# What comes back.


# Pillow writes the others as another mode.
MODES = [
    (fmt, mode)
    for fmt in LOSSLESS
    for mode in ("L", "LA", "RGB", "RGBA")
    if (fmt, mode) not in {("bmp", "LA"), ("bmp", "RGBA"), ("webp", "L"), ("webp", "LA")}
]


@pytest.mark.parametrize(("fmt", "mode"), MODES)
def test_pixels_and_alpha_come_back_to_the_bit(fmt: str, mode: str) -> None:
    image = PillowImage.fromarray(photo_u8()).convert(mode)
    if "A" in mode:
        image.putalpha(PillowImage.fromarray(photo_u8(seed=5)[..., 0]))
    data = again(plain(fmt, image))
    assert opened(data).mode == mode
    np.testing.assert_array_equal(np.array(opened(data)), np.array(image))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_come_back_to_the_bit(suffix: str, channels: int) -> None:
    pixels = photo_u16(channels=channels)
    written = again(by_opencv(suffix, pixels))
    found = cv2.imdecode(np.frombuffer(written, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    expected = pixels[..., 0] if channels == 1 else pixels[..., [2, 1, 0, 3][:channels]]
    np.testing.assert_array_equal(found, expected)


def test_grey_with_alpha_of_sixteen_bits_comes_back_to_the_bit() -> None:
    pixels = photo_u16(channels=2)
    rows = np.pad(pixels.astype(">u2").reshape(24, -1).view(np.uint8), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", 36, 24, 16, 4, 0, 0, 0)
    ends = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    data = png_with(b"\x89PNG\r\n\x1a\n".ljust(33, b"!"), *ends).replace(b"!" * 25, b"")
    photo = read(data)
    np.testing.assert_array_equal(pixels_of(photo), pixels)
    np.testing.assert_array_equal(pixels_of(read(again(data))), pixels)


def test_one_transparent_colour_becomes_alpha() -> None:
    pixels = photo_u16()
    data = png_with(by_opencv(".png", pixels), (b"tRNS", struct.pack(">HHH", *pixels[3, 4])))
    alpha = read(data).alpha
    assert alpha is not None
    assert alpha[3, 4] == 0
    assert (alpha == 65535).sum() == alpha.size - 1
    keyed = plain("png", transparency=tuple(int(v) for v in photo_u8()[3, 4]))
    assert read(keyed).alpha[3, 4] == 0


def test_what_the_network_made_of_grey_stays_grey() -> None:
    grey = np.repeat(photo_u8()[..., :1], 3, axis=2)
    for image in (PillowImage.fromarray(grey), PillowImage.fromarray(grey).convert("L")):
        photo = read(plain("png", image))
        tinted = (photo.tensor() + torch.tensor([0.1, 0.0, -0.1])[:, None, None]).clamp(0, 1)
        written = opened(write_photo(photo, tinted))
        assert written.mode == image.mode
        channels = np.array(written.convert("RGB"))
        assert (channels[..., :1] == channels).all()


def test_the_networks_change_is_what_is_written() -> None:
    photo = read(plain("png"))
    written = np.array(opened(write_photo(photo, 1 - photo.tensor())))
    np.testing.assert_array_equal(written, 255 - photo_u8())


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


def test_comments_and_iptc_of_a_jpeg_are_kept() -> None:
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02\x05\0\x05Dune!"
    extra = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    written = opened(again(plain("jpeg", extra=extra, comment=b"by hand")))
    assert written.info["comment"] == b"by hand"
    assert ("APP13", iptc) in written.applist


def test_a_jpeg_is_coded_finely_however_coarse_it_was() -> None:
    coarse = opened(again(plain("jpeg", quality=20)))
    assert sum(coarse.quantization[0]) < sum(opened(plain("jpeg", quality=90)).quantization[0])
    fine = opened(plain("jpeg", quality=99, subsampling=2, progressive=True))
    kept = opened(again(plain("jpeg", quality=99, subsampling=2, progressive=True)))
    assert kept.quantization == fine.quantization
    assert kept.layer == fine.layer
    assert "progressive" in kept.info


def test_quality_is_what_is_asked_for() -> None:
    data = plain("jpeg", quality=99)
    assert (
        opened(again(data, quality=40)).quantization
        == opened(plain("jpeg", quality=40)).quantization
    )
    assert len(again(plain("webp"), quality=30)) < len(again(plain("webp")))
    with pytest.raises(ValueError, match="quality must be 1 to 100, got 0"):
        again(data, quality=0)


def test_a_lossy_webp_is_coded_finely() -> None:
    data = encoded(PillowImage.fromarray(photo_u8(64, 64)), "WEBP", quality=80)
    before, after = np.array(opened(data)), np.array(opened(again(data)))
    assert peak_signal_noise_ratio(before, after) > 35


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


def test_sixteen_bits_become_eight_where_the_format_holds_no_more() -> None:
    written = again(by_opencv(".png", photo_u16(channels=4)), format="webp")
    expected = np.round(photo_u16(channels=4) / 257)
    np.testing.assert_array_equal(np.array(opened(written)), expected)


def test_transparency_into_a_jpeg_is_refused_unless_nothing_is_transparent() -> None:
    image = PillowImage.fromarray(photo_u8()).convert("RGBA")
    assert opened(again(plain("png", image), format="jpeg")).mode == "RGB"
    image.putpixel((0, 0), (1, 2, 3, 4))
    with pytest.raises(ValueError, match="transparency, which JPEG cannot hold"):
        again(plain("png", image), format="jpeg")


def test_what_a_format_cannot_hold_is_refused() -> None:
    wide = read(plain("png", PillowImage.new("L", (16_384, 1))))
    with pytest.raises(ValueError, match="16,383 px that webp holds"):
        write_photo(wide, wide.tensor(), format="webp")
    photo = read(plain("png"))
    with pytest.raises(ValueError, match="unknown format 'gif'; choose png"):
        write_photo(photo, photo.tensor(), format="gif")
    with pytest.raises(ValueError, match=r"expected restored \[3, 24, 36\], got \[3, 2, 2\]"):
        write_photo(photo, torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="no numbers"):
        write_photo(photo, torch.full((3, 24, 36), float("nan")))


def test_a_lossless_webp_stays_lossless_however_long_its_profile_is() -> None:
    profile = srgb_profile() + bytes(9000)
    data = plain("webp", icc_profile=profile)
    written = again(data)
    np.testing.assert_array_equal(np.array(opened(written)), photo_u8())
    assert opened(written).info["icc_profile"] == profile


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
        "its IPTC or comments left out, which PNG does not hold",
    )
    deep = read(by_opencv(".png", photo_u16()))
    assert notes_for(deep, "tiff") == ()
    assert notes_for(deep, "jpeg") == ("its 16 bits a channel became 8",)
