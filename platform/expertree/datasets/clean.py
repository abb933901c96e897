"""The sets of clean images, some of which are spoiled to measure denoising and deblocking."""

from expertree.datasets import protocols
from expertree.datasets.protocols import Protocol
from expertree.datasets.readers import (
    DatasetSpec,
    Find,
    Split,
    clean_images,
    made_of,
    photographs,
)

SIGMAS = (15, 25, 50)
QUALITIES = (10, 20, 30, 40)


def noisy_set(
    title: str,
    number: int | None,
    *globs: str,
    usual: str = "noise25",
    is_measured: bool = True,
    folders: tuple[str, ...] = (),
    marks: tuple[str, ...] = (),
) -> DatasetSpec:
    """Return a set of clean images, with splits that add noise of deviation 15, 25 and 50.

    Args:
        title: Name for people.
        number: Number of its images; None if that varies.
        globs: Places of the images, in the order in which they are tried.
        usual: The split that is taken where none is named.
        is_measured: Whether publications measure it.
        folders: Names that its folder has on people's disks; see `DatasetSpec`.
        marks: Globs that no other set has.
    """
    made = [protocols.noise(sigma) for sigma in SIGMAS]
    made += [protocols.float_noise(sigma) for sigma in SIGMAS]
    splits = _splits(clean_images(*globs), number, made, clean_protocol=protocols.RGB16)
    return DatasetSpec(
        title=title,
        splits={usual: splits[usual], **splits},
        measured=tuple(protocol.name for protocol in made) if is_measured else (),
        folders=folders,
        marks=marks,
    )


def jpeg_set(
    title: str,
    number: int,
    *globs: str,
    is_grey: bool = False,
    folders: tuple[str, ...] = (),
    marks: tuple[str, ...] = (),
) -> DatasetSpec:
    """Return a set of clean images, with splits that code them as JPEG at quality 10 to 40.

    Args:
        title: Name for people.
        number: Number of its images.
        globs: Places of the images, in the order in which they are tried.
        is_grey: Whether its images have no colour.
        folders: Names that its folder has on people's disks; see `DatasetSpec`.
        marks: Globs that no other set has.
    """
    colour = [] if is_grey else [protocols.jpeg(quality) for quality in QUALITIES]
    made = [*colour, *(protocols.grey_jpeg(quality) for quality in QUALITIES)]
    return DatasetSpec(
        title=title,
        splits=_splits(clean_images(*globs), number, made, clean_protocol=protocols.RGB),
        measured=tuple(protocol.name for protocol in made),
        folders=folders,
        marks=marks,
    )


def clean_set(title: str, **parts: tuple[int, tuple[str, ...]]) -> DatasetSpec:
    """Return a set of clean images alone, to train on.

    Args:
        title: Name for people.
        parts: For each split the number of its images, and their places.
    """
    return DatasetSpec(
        title=title,
        splits={
            name: Split(find=clean_images(*globs), num_pairs=number)
            for name, (number, globs) in parts.items()
        },
    )


def photograph_set() -> DatasetSpec:
    """Return any degraded photographs whose clean ones nobody has."""
    return DatasetSpec(
        title="photographs without clean ones",
        splits={"all": Split(find=photographs("**/*"))},
        measured=("all",),
        folders=("photographs", "photos", "unpaired", "unpairedreal"),
    )


def _splits(
    clean: Find, number: int | None, made: list[Protocol], *, clean_protocol: Protocol
) -> dict[str, Split]:
    splits = {
        protocol.name: Split(
            find=made_of(clean, protocol),
            num_pairs=number,
            protocols=(protocol,),
            is_coloured=number is not None and protocol.channels != "grey",
        )
        for protocol in made
    }
    splits["clean"] = Split(find=clean, num_pairs=number, protocols=(clean_protocol,))
    return splits
