"""A user's photograph survives: what the network gets, and what is written again."""

import dataclasses
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from PIL import ImageOps
from skimage.metrics import peak_signal_noise_ratio

from expertree.images.photo_file import Photo, write_photo
from photographs import (
    again,
    by_opencv,
    encoded,
    exif_block,
    opened,
    photo_u8,
    photo_u16,
    plain,
    png_with,
    random_u8,
    read,
    srgb_profile,
)

LOSSLESS = ["png", "bmp", "tiff", "webp"]


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


def test_a_jpeg_is_coded_finely_however_coarse_it_was() -> None:
    coarse = opened(again(plain("jpeg", quality=20)))
    assert sum(coarse.quantization[0]) < sum(opened(plain("jpeg", quality=90)).quantization[0])
    fine = opened(plain("jpeg", quality=99, subsampling=2, progressive=True))
    kept = opened(again(plain("jpeg", quality=99, subsampling=2, progressive=True)))
    assert kept.quantization == fine.quantization
    assert kept.layer == fine.layer
    assert "progressive" in kept.info


@pytest.mark.parametrize("quality", [None, 90, 100])
def test_a_grainy_progressive_jpeg_is_written_though_it_fills_the_encoder(quality) -> None:
    calm = plain("jpeg", PillowImage.fromarray(photo_u8(300, 300)), quality=90, progressive=True)
    pixels = random_u8(300, 300)
    grain = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
    written = np.array(opened(write_photo(read(calm), grain, quality=quality)))
    assert np.abs(written.astype(int) - pixels).mean() < 16


@pytest.mark.parametrize("fmt", ["jpeg", "webp", "avif"])
def test_what_an_encoder_cannot_write_is_an_error_of_the_photograph(fmt, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("broken data stream")

    photo = read(plain(fmt))
    monkeypatch.setattr(PillowImage.Image, "save", fail)
    with pytest.raises(ValueError, match=rf"cannot be written as {fmt.upper()} \(broken data"):
        write_photo(photo, photo.tensor(), quality=90)


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
