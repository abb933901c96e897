"""HEIC, the photographs of telephones: turned once, with profile, EXIF and ten bits, and back."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pillow_heif
import pytest
from PIL import Image as PillowImage

from expertree.batch.arguments import parse
from expertree.batch.listing import list_photographs
from expertree.batch.restoring import check_options
from expertree.batch.settings import RestoreOptions
from expertree.batch.summary import _others
from expertree.errors import (
    ConfigError,
    DamagedImageError,
    PhotoError,
    TooLargeError,
    UnsupportedFormatError,
)
from expertree.images import heic
from expertree.images.containers import read_header
from expertree.images.photo_file import notes_for, read_photo, write_photo
from expertree.serving.http.responses import negotiate_media_types
from photographs import matrix_profile, photo_u8, read


def exif_block(orientation: int) -> bytes:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    return exif.tobytes()


def heic_of(pixels: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    file = pillow_heif.from_bytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
    if icc := options.pop("icc", None):
        file[0].info["icc_profile"] = icc
    stream = io.BytesIO()
    file.save(stream, **({"quality": 95, "chroma": 444} | options))
    return stream.getvalue()


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_a_photograph_is_turned_once_and_keeps_what_it_carries() -> None:
    pixels, profile = photo_u8(48, 64), matrix_profile()
    data = heic_of(pixels, exif=exif_block(6), xmp=b"<x:xmpmeta/>", icc=profile)
    assert read_header(data).format == "heic"
    photo = read(data)
    assert (photo.format, photo.depth, photo.height_px, photo.width_px) == ("heic", 8, 64, 48)
    assert apart(photo.colour, np.rot90(pixels, -1)) < 4
    assert photo.notes == ()

    written = write_photo(photo, photo.tensor())
    again = pillow_heif.open_heif(io.BytesIO(written))
    assert again.size == (48, 64)
    assert apart(np.asarray(again), np.rot90(pixels, -1)) < 6
    exif = PillowImage.Exif()
    exif.load(again.info["exif"])
    assert exif[0x0112] == 1
    assert exif[0x010F] == "Maker"
    assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
    assert again.info["xmp"] == b"<x:xmpmeta/>"
    assert again.info["icc_profile"] == profile
    assert read(written).metadata.exif == photo.metadata.exif


def test_ten_bits_are_restored_as_sixteen_and_written_as_ten() -> None:
    ramp = np.linspace(0, 65535, 64 * 96).astype(np.uint16).reshape(64, 96, 1).repeat(3, axis=2)
    data = heic_of(ramp, "RGB;16")
    assert read_header(data).depth == 10
    photo = read(data)
    assert photo.depth == 16
    assert apart(photo.colour, ramp) < 200
    assert len(np.unique(photo.colour[..., 1])) > 256
    assert notes_for(photo, None) == ()
    written = write_photo(photo, photo.tensor())
    assert read_header(written).depth == 10
    assert apart(read(written).colour, ramp) < 400
    assert notes_for(photo, "jpeg") == ("its 16 bits a channel became 8",)
    assert read_header(write_photo(photo, photo.tensor(), format="tiff")).depth == 16


def test_transparency_and_grey_are_kept() -> None:
    pixels = np.dstack([photo_u8(40, 56), photo_u8(40, 56, seed=3)[..., 0]])
    photo = read(heic_of(pixels, "RGBA"))
    assert photo.alpha is not None
    assert apart(photo.alpha, pixels[..., 3]) < 4
    assert read(write_photo(photo, photo.tensor())).alpha is not None
    grey = read(heic_of(np.ascontiguousarray(pixels[..., 0]), "L"))
    assert grey.is_grey
    assert read(write_photo(grey, grey.tensor())).is_grey


def test_other_formats_become_heic_with_a_note_on_depth() -> None:
    stream = io.BytesIO()
    PillowImage.fromarray(photo_u8()).save(stream, format="PNG")
    photo = read(stream.getvalue())
    assert read_header(write_photo(photo, photo.tensor(), format="heic")).format == "heic"
    assert notes_for(photo, "heic") == ()
    deep = read(heic_of(photo_u8().astype(np.uint16) * 257, "RGB;16"))
    tiff = read(write_photo(deep, deep.tensor(), format="tiff"))
    assert notes_for(tiff, "heic") == ("its 16 bits a channel became 10",)


def test_what_lies_beside_the_picture_is_told() -> None:
    info = {
        "depth_images": [object()],
        "aux": {"urn:com:apple:photo:2020:aux:hdrgainmap": [3]},
        "nclx_profile": {"color_primaries": 9, "transfer_characteristics": 18},
    }
    assert heic._notes(info, num_pictures=2) == [
        "its depth map was left out",
        "a gain map or another part beside its picture was left out",
        "further pictures in it were left out",
        "its colours (nclx 9/18) were taken for sRGB",
    ]


def test_of_several_pictures_the_main_one_is_read() -> None:
    file = pillow_heif.from_bytes("RGB", (64, 48), photo_u8(48, 64).tobytes())
    file.add_frombytes("RGB", (64, 48), photo_u8(48, 64, seed=5).tobytes())
    stream = io.BytesIO()
    file.save(stream, quality=95, chroma=444, primary_index=1)
    photo = read(stream.getvalue())
    assert apart(photo.colour, photo_u8(48, 64, seed=5)) < 4
    assert photo.notes == ("further pictures in it were left out",)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_a_truncated_file_is_damaged(share: float) -> None:
    data = heic_of(photo_u8(120, 160))
    with pytest.raises(DamagedImageError, match=r"is truncated|is damaged"):
        read(data[: int(len(data) * share)])


def test_changed_bytes_give_a_photograph_or_an_error_of_ours() -> None:
    data, rng = heic_of(photo_u8(32, 32)), np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            changed[place] = rng.integers(0, 256)
        with contextlib.suppress(PhotoError):
            read(bytes(changed))


def test_too_many_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(TooLargeError, match="128 x 64 = 8,192"):
        read_photo(heic_of(photo_u8(64, 128)), max_pixels=64 * 128 - 1)


def test_without_pillow_heif_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic_of(photo_u8())
    photo = read(data)
    monkeypatch.setattr(heic, "has_heic", lambda: False)
    with pytest.raises(UnsupportedFormatError, match=r"pip install 'expertree\[heif\]'"):
        read(data)
    with pytest.raises(ValueError, match=r"pip install 'expertree\[heif\]'"):
        write_photo(photo, photo.tensor())
    assert "pip install 'expertree[heif]'" in _others({".heic": 3})[1]
    monkeypatch.setattr("expertree.batch.restoring.has_heic", lambda: False)
    outline = SimpleNamespace(check_wish=lambda _: None)
    with pytest.raises(ConfigError, match=r"--format heic needs pillow-heif"):
        check_options(outline, RestoreOptions(format="heic"))


def test_folders_and_the_command_line_take_it(tmp_path: Path) -> None:
    for name in ("IMG_1.HEIC", "b.heif", "c.HIF"):
        (tmp_path / name).write_bytes(heic_of(photo_u8(64, 128)))
    (tmp_path / "IMG_1.MOV").write_bytes(b"")  # of a live photograph
    listing = list_photographs(tmp_path, recursive=False)
    assert [item.name for item in listing.items] == ["IMG_1.HEIC", "b.heif", "c.HIF"]
    assert [item.num_pixels for item in listing.items] == [64 * 128] * 3
    assert listing.others == {".mov": 1}
    for name in ("heic", "HEIF", "avif"):
        given = parse(["-i", "a", "-o", "b", "--format", name], program="p", description="d")
        assert given.options.format == name.lower().replace("heif", "heic")


def test_the_endpoint_answers_with_it() -> None:
    assert negotiate_media_types("image/heic", "jpeg", None) == ("image/heic",)
    assert negotiate_media_types("image/heif", "jpeg", None) == ("image/heic",)
    assert negotiate_media_types("image/avif, image/heic;q=0.5", "jpeg", None) == (
        "image/avif",
        "image/heic",
    )
