"""The tags of TIFF photographs: what they ask for, and which are metadata."""

import io

from PIL import Image as PillowImage
from PIL.TiffImagePlugin import TiffImageFile

from expertree.errors import DamagedImageError, UnsupportedFormatError
from expertree.images.decoder_errors import DECODER_ERRORS
from expertree.images.photo_metadata import Metadata
from expertree.images.photoshop import without_thumbnails
from expertree.images.tags import made_upright, orientation_of, read_directory
from expertree.images.xmp import said_upright, upright_xmp, xmp_orientation

TIFF_STRUCTURE = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281),
        *(282, 283, 284, 288, 289, 292, 293, 296, 297, 317, 318, 319, 320, 321, 322, 323, 324, 325),
        *(330, 332, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521),
        *(529, 530, 531, 532, 700, 34675),
    }
)
"""Tags that say how a TIFF's pixels are coded, or that `Metadata` has in another field."""

_XMP, _RESOLUTION = 700, 282

PHOTOSHOP = 34377
"""Tag of Photoshop's resources."""

OTHER_CHANNEL = "a channel that is neither colour nor transparency was left out"
"""Note on what TIFF calls unspecified, such as the infrared of a scanned film."""

_PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES = 262, 277, 338
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}
"""Channels of colour by photometric interpretation: RGB, CMYK, YCbCr, CIELab; of others 1."""

_LAYERS = 37724
"""Tag of Photoshop's layers (ImageSourceData): the picture again, from before its restoration."""

_DEEP_TIFF: dict[int, tuple[int, frozenset[int]]] = {
    258: (1, frozenset({16})),  # bits of each sample
    262: (0, frozenset({1, 2})),  # photometric: black is zero, or RGB
    277: (1, frozenset({1, 3, 4})),  # samples a pixel
    284: (1, frozenset({1})),  # planar configuration: a pixel's samples beside each other
    338: (2, frozenset({0, 2})),  # extra samples: not premultiplied
    339: (1, frozenset({1})),  # sample format: unsigned
}
"""Tags of a 16-bit TIFF, each with its default and the values that are supported."""

_DEEP_TIFF_ADVICE = {
    258: "some of its channels have other depths; save all with 16 bits",
    262: "its colours are neither RGB nor grey; convert them to one of these",
    277: "it is grey with another channel, or RGB with several; save it without them, or as RGB",
    284: "its channels lie in planes; save them interleaved ('chunky', planar configuration 1)",
    338: "its colours are multiplied by its transparency; save them unassociated",
    339: "its values are no unsigned integers; convert them to these",
}
"""What is the matter and what to do, by the tag that has another value."""


def read_deep_tiff(data: bytes, orientation: int) -> tuple[bytes, Metadata, tuple[str, ...]]:
    """Return the file with orientation 1, as OpenCV would half apply another, metadata and notes.

    Other kinds of 16-bit TIFF are refused, since OpenCV silently reads some of them wrongly.
    """
    directory = read_directory(data)
    is_grey = directory.number(data, _PHOTOMETRIC, 0) not in _COLOURS
    for tag, (default, allowed) in _DEEP_TIFF.items():
        value = directory.number(data, tag, default)
        if value not in allowed or (is_grey and tag == _SAMPLES and value > 1):
            raise UnsupportedFormatError(
                f"has 16 bits a channel in a way that is not read (tag {tag} is {value}): "
                f"{_DEEP_TIFF_ADVICE[tag]}"
            )
    notes = other_channels(data)
    data = upright_tiff(data)
    try:
        metadata, more = tiff_metadata(TiffImageFile(io.BytesIO(data)), orientation)
    except DECODER_ERRORS as error:
        raise DamagedImageError(f"is damaged ({error})") from error
    return data, metadata, (*notes, *more)


def other_channels(data: bytes) -> tuple[str, ...]:
    """Return a note if a TIFF has channels that are neither colour nor transparency."""
    directory = read_directory(data)
    colours = _COLOURS.get(directory.number(data, _PHOTOMETRIC, 0), 1)
    num_others = directory.number(data, _SAMPLES, 1) - colours
    place = directory.span(data, _EXTRA_SAMPLES)
    if place is None or num_others < 1:
        return ()
    kinds = data[place.start : min(place.stop, place.start + 2 * num_others)]
    is_there = any(kinds[at : at + 2] == b"\0\0" for at in range(0, len(kinds), 2))
    return (OTHER_CHANNEL,) if is_there else ()


def tiff_orientation(data: bytes) -> int:
    """Return the turn that a TIFF asks for, by its own tag or else by its XMP."""
    own, packet = orientation_of(data), read_directory(data).span(data, _XMP)
    return own or (1 if packet is None else xmp_orientation(data[packet]))


def upright_tiff(data: bytes) -> bytes:
    """Return the file such that nothing in it asks for a turn."""
    packet = read_directory(data).span(data, _XMP)
    data = made_upright(data, tiff_orientation(data), is_file=True)
    if packet is not None:
        data = b"".join([data[: packet.start], said_upright(data[packet]), data[packet.stop :]])
    return data


def tiff_metadata(image: PillowImage.Image, orientation: int) -> tuple[Metadata, tuple[str, ...]]:
    """Return the metadata of an upright TIFF, with the tags that are not about its coding as EXIF.

    Args:
        image: The file after `upright_tiff`.
        orientation: The turn that it asked for.

    Returns:
        The metadata, and notes in words on what is left out.
    """
    exif = image.getexif()
    notes = ("its layers were left out",) if _LAYERS in exif else ()
    for tag in (TIFF_STRUCTURE | {_LAYERS}) & set(exif):
        del exif[tag]
    resources = exif.get(PHOTOSHOP)
    if isinstance(resources, bytes):
        del exif[PHOTOSHOP]
    try:
        block = exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None
    except DECODER_ERRORS:
        block = None
    tags = getattr(image, "tag_v2", {})
    xmp = tags.get(_XMP)
    dpi = image.info.get("dpi") if _RESOLUTION in tags else None
    metadata = Metadata(
        exif=block,
        icc=image.info.get("icc_profile"),
        xmp=upright_xmp(xmp, orientation) if isinstance(xmp, bytes) else None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        resources=without_thumbnails(resources) if isinstance(resources, bytes) else b"",
    )
    return metadata, notes
