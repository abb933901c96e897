"""Which files are photographs, and which are refused, before they cost anything."""

import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from expertree.errors import (
    DamagedImageError,
    PhotoError,
    TooLargeError,
    UnsupportedFormatError,
)
from expertree.images.containers import join_png, png_chunks
from expertree.images.photo_file import read_photo, write_photo
from photographs import (
    again,
    by_opencv,
    encoded,
    opened,
    photo_u8,
    photo_u16,
    plain,
    png_with,
    read,
)


def exif_block(orientation: int) -> bytes:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    exif[0x8769] = {0x9003: "2024:05:06 07:08:09", 0xA002: 16, 0xA003: 16}
    return exif.tobytes()


# Kinds of pixels.


@pytest.mark.parametrize(
    ("mode", "becomes", "note"),
    [
        ("1", "L", "black and white became grey"),
        ("P", "RGB", "palette became RGB"),
        ("CMYK", "RGB", "CMYK became RGB"),
    ],
)
def test_rare_kinds_of_pixels_become_common_ones_with_a_note(mode, becomes, note) -> None:
    fmt = "jpeg" if mode == "CMYK" else "png"
    photo = read(plain(fmt, PillowImage.fromarray(photo_u8()).convert(mode)))
    assert note in " ".join(photo.notes)
    assert opened(write_photo(photo, photo.tensor())).mode == becomes


@pytest.mark.parametrize("size", [(1, 1), (10_000, 1), (1, 10_000)])
@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "bmp", "tiff"])
def test_extreme_shapes_are_photographs(fmt: str, size: tuple[int, int]) -> None:
    image = PillowImage.new("RGB", size, (10, 200, 30))
    assert opened(again(plain(fmt, image))).size == size


def test_a_palette_with_a_transparent_entry_has_alpha() -> None:
    data = plain("png", PillowImage.fromarray(photo_u8()).quantize(3), bits=2, transparency=1)
    assert read(data).alpha is not None


# What is refused, before it costs anything.


def test_a_claim_of_many_pixels_is_refused_from_the_header() -> None:
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sIIBBBBB", 13, b"IHDR", 9000, 9000, 8, 2, 0, 0, 0
    )
    with pytest.raises(TooLargeError, match=r"9,000 x 9,000 = 81,000,000 pixels"):
        read_photo(header, max_pixels=40_000_000)


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "bmp", "tiff"])
def test_the_limit_on_pixels_is_the_same_for_every_format(fmt: str) -> None:
    data = plain(fmt)
    assert read_photo(data, max_pixels=24 * 36).num_pixels == 24 * 36
    assert read_photo(data, max_pixels=None).num_pixels == 24 * 36
    with pytest.raises(TooLargeError, match=r"36 x 24 = 864 pixels, of which at most 863"):
        read_photo(data, max_pixels=24 * 36 - 1)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty and not an image"),
        (b"\0\0\0\x18ftyphevc", "is a HEIC sequence"),
        (b"\0\0\0\x18ftypmsf1", "is a HEIC sequence"),
        (b"\0\0\0\x18ftypmif1", "is a HEIF image of another coding"),
        (b"hello", "not an image"),
        (b"GIF89a", "is a GIF; give PNG"),
        (b"\0\0\0\x18ftypisom", "is a video"),
        (b"%PDF-1.7", "is a PDF"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"II+\0\x08\0\0\0", "is a BigTIFF"),
    ],
)
def test_another_kind_of_file_is_named(data: bytes, what: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=what):
        read(data)


@pytest.mark.parametrize("fmt", ["png", "webp", "tiff"])
def test_several_frames_or_pages_are_refused(fmt: str) -> None:
    frames = [PillowImage.fromarray(photo_u8(seed=seed)) for seed in range(3)]
    data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedFormatError, match="one picture a file"):
        read(data)


@pytest.mark.parametrize("fmt", ["png", "webp"])
def test_an_animation_of_one_frame_is_a_photograph(fmt: str) -> None:
    image = PillowImage.fromarray(photo_u8())
    two = encoded(image, fmt, save_all=True, append_images=[image.rotate(90)], lossless=True)
    data = one_frame(two) if fmt == "png" else one_webp_frame(two)
    np.testing.assert_array_equal(read(data).colour, photo_u8())
    np.testing.assert_array_equal(np.array(opened(again(data))), photo_u8())


def one_frame(data: bytes) -> bytes:
    """An animated PNG cut to its first frame, which is its picture."""
    chunks = png_chunks(data)
    (first,) = [at for at, (name, _) in enumerate(chunks) if name == b"IEND"]
    last = max(at for at, (name, _) in enumerate(chunks) if name == b"IDAT")
    kept = [(n, struct.pack(">II", 1, 0) if n == b"acTL" else p) for n, p in chunks[: last + 1]]
    return join_png([*kept, chunks[first]])


def one_webp_frame(data: bytes) -> bytes:
    second = data.rindex(b"ANMF")
    return data[:4] + struct.pack("<I", second - 8) + data[8:second]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_32_bits_are_refused(mode: str) -> None:
    data = encoded(PillowImage.fromarray(photo_u8()).convert(mode), "TIFF")
    with pytest.raises(UnsupportedFormatError, match="32 bits a channel"):
        read(data)


@pytest.mark.parametrize(
    ("tag", "value", "advice"),
    [
        (284, 2, "save them interleaved"),
        (339, 3, "convert them to these"),
        (338, 1, "save them unassociated"),
    ],
    ids=["planes", "half floats", "premultiplied"],
)
def test_sixteen_bits_that_opencv_would_read_wrongly_are_refused(tag, value, advice) -> None:
    photo = read(by_opencv(".png", photo_u16()))
    data = write_photo(photo, photo.tensor(), format="tiff")
    entry = data.index(struct.pack("<HHIH", 284, 3, 1, 1))  # planar configuration, by default 1
    changed = data[:entry] + struct.pack("<HHIH", tag, 3, 1, value) + data[entry + 10 :]
    with pytest.raises(UnsupportedFormatError, match=f"tag {tag} is {value}.*{advice}"):
        read(changed)


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_damaged(fmt: str, share: float) -> None:
    data = plain(fmt, PillowImage.fromarray(photo_u8(120, 160)))
    with pytest.raises(DamagedImageError, match=r"is truncated|is damaged"):
        read(data[: int(len(data) * share)])


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("share", [0.3, 0.98])
def test_a_truncated_file_of_sixteen_bits_is_damaged(suffix: str, share: float) -> None:
    data = by_opencv(suffix, photo_u16())
    with pytest.raises(DamagedImageError, match=r"is truncated|is damaged"):
        read(data[: int(len(data) * share)])


def test_pixels_cut_short_inside_a_whole_png_are_damaged() -> None:
    for pixels in (photo_u8(), photo_u16()):
        depth = 8 * pixels.itemsize
        header = struct.pack(">IIBBBBB", 36, 24, depth, 2, 0, 0, 0)
        body = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
        data = png_with(b"\x89PNG\r\n\x1a\n".ljust(33, b"!"), *body).replace(b"!" * 25, b"")
        with pytest.raises(DamagedImageError, match="is damaged"):
            read(data)


@pytest.mark.parametrize("name", [b"tEXt", b"eXIf", b"iCCP"])
def test_a_damaged_chunk_beside_the_picture_costs_the_chunk_alone(name: bytes) -> None:
    for pixels in (plain("png"), by_opencv(".png", photo_u16())):
        whole = png_with(pixels, (b"pHYs", struct.pack(">IIB", 3000, 3000, 1)), (name, b"x\0\0yz"))
        damaged = whole.replace(b"x\0\0yz", b"x\0\0ab")
        photo = read(damaged)
        np.testing.assert_array_equal(photo.colour, read(pixels).colour)
        assert photo.metadata.dpi is not None
        assert f"its {name.decode()} was damaged and left out" in photo.notes
    with pytest.raises(DamagedImageError, match="is damaged"):
        read(plain("png").replace(b"IDAT", b"IDAT\1", 1))


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "bmp", "tiff"])
def test_what_follows_the_end_is_ignored(fmt: str) -> None:
    data = plain(fmt)
    np.testing.assert_array_equal(read(data + b"trailing" * 100).colour, read(data).colour)


@pytest.mark.parametrize("error", [UnsupportedFormatError, TooLargeError, DamagedImageError])
def test_the_errors_are_of_photographs_and_travel_between_processes(error: type) -> None:
    assert issubclass(error, PhotoError)
    assert str(pickle.loads(pickle.dumps(error("is so")))) == "is so"


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "avif", "bmp", "tiff"])
@settings(max_examples=40)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_changed_bytes_give_a_photograph_or_an_error_of_ours(fmt: str, changes: list) -> None:
    data = bytearray(plain(fmt, PillowImage.fromarray(photo_u8(16, 16)), exif=exif_block(6)))
    for where, value in changes:
        data[int(where * (len(data) - 1))] = value
    try:
        photo = read(bytes(data))
    except PhotoError:
        return
    assert photo.tensor().shape == (3, photo.height_px, photo.width_px)


# AVIF, which no option of Pillow makes lossless.


def test_an_avif_is_read_and_written_with_what_it_carries() -> None:
    image = PillowImage.fromarray(photo_u8(48, 64))
    data = plain("avif", image, quality=90, exif=exif_block(6), xmp=b"<x:xmpmeta/>")
    photo = read(data)
    assert (photo.format, photo.height_px, photo.width_px) == ("avif", 64, 48)
    written = opened(write_photo(photo, photo.tensor()))
    assert (written.format, written.size) == ("AVIF", (48, 64))
    assert written.getexif().get(0x0112, 1) == 1
    assert written.getexif().get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
    assert written.info["xmp"] == b"<x:xmpmeta/>"
    difference = np.array(written).astype(int) - np.rot90(photo_u8(48, 64), -1)
    assert np.abs(difference).mean() < 4


def test_an_avif_with_alpha_keeps_it() -> None:
    image = PillowImage.fromarray(photo_u8()).convert("RGBA")
    image.putalpha(PillowImage.fromarray(photo_u8(seed=3)[..., 0]))
    photo = read(plain("avif", image, quality=90))
    assert photo.alpha is not None
    assert opened(write_photo(photo, photo.tensor())).mode == "RGBA"


def test_an_avif_of_ten_bits_is_refused_and_not_read_as_eight() -> None:
    data = bytearray(plain("avif"))
    data[data.index(b"av1C") + 4 + 2] |= 0x40
    with pytest.raises(UnsupportedFormatError, match="has 10 bits a channel"):
        read(bytes(data))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_a_truncated_avif_is_damaged(share: float) -> None:
    data = plain("avif", PillowImage.fromarray(photo_u8(120, 160)))
    with pytest.raises(DamagedImageError, match=r"is truncated|is damaged"):
        read(data[: int(len(data) * share)])


def test_an_avif_that_claims_too_much_is_refused_from_its_header() -> None:
    with pytest.raises(TooLargeError, match="36 x 24 = 864"):
        read_photo(plain("avif"), max_pixels=863)
    frames = [PillowImage.fromarray(photo_u8(seed=seed)) for seed in range(3)]
    animated = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedFormatError, match="an animation"):
        read(animated)
