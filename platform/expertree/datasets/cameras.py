"""The sets of what cameras do: motion blur, low light, real noise; and pairs of anybody's."""

import dataclasses
import re
from pathlib import Path

from expertree.datasets.layouts import Layout, Place, first_names, folders, images_at
from expertree.datasets.names import (
    above,
    by_first_part,
    by_folder,
    matching,
    numbered_folder,
)
from expertree.datasets.pairs import Pair, Piece, shapes_in
from expertree.datasets.protocols import RGB, RGB16
from expertree.datasets.readers import (
    DatasetSpec,
    Find,
    Split,
    one_of,
    pairs_of_files,
    photographs,
)

_IN_TWO_FOLDERS = (folders("input", "blur"), folders("target", "sharp", "gt"))

USUAL_LQ = (
    *("input", "lq", "LQ", "low", "Low", "noisy", "hazy", "haze", "blur", "rain", "rainy"),
    *("snow", "degraded"),
)
USUAL_GT = (
    *("target", "gt", "GT", "high", "High", "normal", "Normal", "clean", "clear", "sharp"),
    *("norain", "groundtruth"),
)
"""Names that the two folders of the set `paired` may have, in any mix."""


def gopro() -> DatasetSpec:
    """Return GoPro: by scenes, as published, or in two folders. A recording is one scene."""
    recording = matching(r"(GOPR\d+).*")
    film = matching(r"(?:(GOPR\d+).*|(.+)-[^-]+)")

    def split(name: str, number: int) -> Split:
        by_scenes = Layout(
            lq=("*/blur/*",),
            gt=("*/sharp/*",),
            lq_key=by_folder,
            gt_key=by_folder,
            name=by_folder,
            scene=lambda path: recording(Path(above(path))),
        )
        flat = Layout(lq=_IN_TWO_FOLDERS[0], gt=_IN_TWO_FOLDERS[1], scene=film)
        find = pairs_of_files(("motion_blur",), *(x.inside(name) for x in (by_scenes, flat)))
        return Split(find=find, num_pairs=number)

    return DatasetSpec(
        title="GoPro",
        splits={"test": split("test", 1111), "train": split("train", 2103)},
        measured=("test",),
        folders=("gopro", "goprolarge"),
        marks=("test/GOPR*",),
    )


def hide() -> DatasetSpec:
    """Return HIDE, whose clean images lie together; or in two folders."""
    scene = matching(r"\d+from(.+)")
    published = {
        "test": Layout(lq=("test/test-*/*",), gt=("GT/*",), scene=scene, gt_has_more=True),
        "train": Layout(lq=("train/*",), gt=("GT/*",), scene=scene, gt_has_more=True),
    }
    flat = Layout(lq=_IN_TWO_FOLDERS[0], gt=_IN_TWO_FOLDERS[1], scene=scene)
    numbers = {"test": 2025, "train": 6397}
    splits = {
        name: Split(
            find=pairs_of_files(("motion_blur",), layout, flat.inside(name), flat),
            num_pairs=numbers[name],
        )
        for name, layout in published.items()
    }
    return DatasetSpec(
        title="HIDE",
        splits=splits,
        measured=("test",),
        folders=("hide", "hidedataset"),
        marks=("test/test-long-shot",),
    )


def realblur(letter: str) -> DatasetSpec:
    """Return RealBlur-J or RealBlur-R: by the authors' lists, or in two folders."""
    kind = {"J": "ECC", "R": "BM3D_ECC"}[letter]
    folder = f"RealBlur-{letter}_{kind}_IMCORR_centroid_itensity_ref"
    by_scenes = Layout(
        lq=(f"{folder}/*/blur/*",),
        gt=(f"{folder}/*/gt/*",),
        lq_key=numbered_folder(r"blur_(\d+)"),
        gt_key=numbered_folder(r"gt_(\d+)"),
        name=numbered_folder(r"blur_(\d+)"),
        scene=above,
    )
    number = matching(r"(?:(scene\d+)_)?(?:blur_|gt_)?(\d+)")
    flat = Layout(
        lq=_IN_TWO_FOLDERS[0],
        gt=_IN_TWO_FOLDERS[1],
        lq_key=number,
        gt_key=number,
        scene=matching(r"(scene\d+)_.*"),
    )

    def split(name: str, num_pairs: int) -> Split:
        listing = f"RealBlur_{letter}_{name}_list.txt"
        places = (name, f"RealBlur_{letter}", "") if name == "test" else (name,)
        find = one_of(
            lambda place: int((place.root / listing).is_file()),
            pairs_of_files(("motion_blur",), *(flat.inside(place) for place in places)),
            _listed(pairs_of_files(("motion_blur",), by_scenes), listing),
        )
        return Split(find=find, num_pairs=num_pairs)

    return DatasetSpec(
        title=f"RealBlur-{letter}",
        splits={"test": split("test", 980), "train": split("train", 3758)},
        measured=("test",),
        folders=(f"realblur{letter.lower()}",),
        marks=(f"RealBlur_{letter}_test_list.txt",),
        family="RealBlur",
    )


def _listed(every: Find, listing: str) -> Find:
    """Return a function that finds those pairs whose degraded image a list names.

    A line of the list has the paths of a clean and a degraded image below the root.
    """

    def find(place: Place) -> list[Pair]:
        lines = (place.root / listing).read_text("utf-8", "replace").split("\n")
        wanted = {Path(part) for line in lines for part in line.split()}
        whole = dataclasses.replace(place, partial=True)
        pairs = {
            pair.lq.relative_to(place.root): pair for pair in every(whole) if pair.lq is not None
        }
        listed = sorted(wanted & pairs.keys())
        missing = [path.as_posix() for path in wanted if "blur" in path.parts and path not in pairs]
        if missing and not place.partial:
            raise place.error(
                f"{len(missing)} of the images that '{listing}' names are not below "
                f"'{place.root}': {first_names(sorted(missing))}"
            )
        return sorted((pairs[path] for path in listed), key=lambda pair: pair.name)

    return find


def lol_v1() -> DatasetSpec:
    """Return LOL v1, several of whose photographs show one scene."""

    def split(folder: str, name: str, number: int) -> Split:
        layout = Layout(lq=folders("low", "input"), gt=folders("high", "target"))
        places = (folder, name, name.capitalize())
        find = pairs_of_files(("low_light",), *(layout.inside(place) for place in places))
        return Split(find=find, num_pairs=number, protocols=(RGB, RGB16))

    return DatasetSpec(
        title="LOL v1",
        splits={"test": split("eval15", "test", 15), "train": split("our485", "train", 485)},
        measured=("test",),
        folders=("lol", "lolv1", "loldataset"),
        marks=("eval15",),
        is_alike=True,
    )


def lol_v2(kind: str) -> DatasetSpec:
    """Return LOL v2, real or synthetic; several real photographs show one scene."""
    folder, titles = {
        "real": ("Real_captured", "LOL v2 real"),
        "synthetic": ("Synthetic", "LOL v2 synthetic"),
    }[kind]
    layout = Layout(
        lq=folders("Low", "low", "input"),
        gt=folders("Normal", "normal", "High", "high", "target"),
        lq_key=matching(r"(?:low)?(.+)"),
        gt_key=matching(r"(?:normal)?(.+)"),
    )
    numbers = {"real": {"test": 100, "train": 689}, "synthetic": {"test": 100, "train": 900}}[kind]

    def split(name: str, number: int) -> Split:
        cased = (name.capitalize(), name)
        places = [f"{above}{part}" for above in (f"{folder}/", "") for part in cased]
        find = pairs_of_files(("low_light",), *(layout.inside(place) for place in places))
        return Split(find=find, num_pairs=number)

    short = {"real": "real", "synthetic": "syn"}[kind]
    return DatasetSpec(
        title=titles,
        splits={name: split(name, number) for name, number in numbers.items()},
        measured=("test",),
        folders=(f"lolv2{kind}", f"lolv2{short}"),
        marks=(f"{folder}/Test", f"{folder}/test"),
        is_alike=kind == "real",
    )


def sidd() -> DatasetSpec:
    """Return SIDD: blocks of validation as published or cut out, and SIDD-Medium to train on."""
    noisy, clean = ("ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb")
    cut = Layout(
        lq=folders("input_crops", "noisy", "input"),
        gt=folders("target_crops", "gt_crops", "gt", "groundtruth", "target"),
    )
    places = ("val/SIDD", "val", "test", "")
    val = one_of(
        lambda place: int((place.root / f"{noisy}.mat").is_file()),
        pairs_of_files(("noise",), *(cut.inside(place) for place in places)),
        _blocks(noisy, clean),
    )
    index = re.compile(r"(.*)_(?:NOISY|GT)_(SRGB_\d+)")

    def shot(path: Path) -> str:
        return path.parts[-2] + "/" + index.sub(r"\1_\2", path.stem)

    medium = (
        Layout(
            lq=(f"{place}*/*_NOISY_SRGB_*",),
            gt=(f"{place}*/*_GT_SRGB_*",),
            lq_key=shot,
            gt_key=shot,
            name=shot,
            scene=lambda path: "_".join(path.parts[-2].split("_")[1:2]),
        )
        for place in ("SIDD_Medium_Srgb/Data/", "Data/", "")
    )
    return DatasetSpec(
        title="SIDD",
        splits={
            "val": Split(find=val, num_pairs=1280),
            "train": Split(find=pairs_of_files(("noise",), *medium), num_pairs=320),
        },
        measured=("val",),
        folders=("sidd",),
        marks=(f"{noisy}.mat",),
    )


def _blocks(noisy: str, clean: str) -> Find:
    """Return a function that finds the blocks in two MATLAB files of arrays of those names.

    The files hold `[images, blocks, height, width, 3]`; an image is a scene.
    """

    def find(place: Place) -> list[Pair]:
        files = {name: place.root / f"{name}.mat" for name in (noisy, clean)}
        shapes = {}
        for name, path in files.items():
            if not path.is_file():
                raise place.error(f"'{place.root}' has '{noisy}.mat' but no '{clean}.mat'")
            try:
                shapes[name] = shapes_in(path).get(name)
            except ValueError as error:
                raise place.error(f"'{path}' {error}") from error
        shape = shapes[noisy]
        if shape is None or len(shape) != 5 or shape != shapes[clean]:
            raise place.error(
                f"expected arrays [images, blocks, height, width, 3] of one shape in "
                f"'{noisy}.mat' and '{clean}.mat', found {shapes[noisy]} and {shapes[clean]}"
            )
        num_images, num_blocks = shape[:2]
        return [
            Pair(
                name=f"{image:02d}_{block:02d}",
                gt=files[clean],
                lq=files[noisy],
                tasks=("noise",),
                scene=f"{image:02d}",
                gt_piece=Piece(array=clean, index=(image, block)),
                lq_piece=Piece(array=noisy, index=(image, block)),
            )
            for image in range(num_images)
            for block in range(num_blocks)
        ]

    return find


def dnd() -> DatasetSpec:
    """Return DND, whose clean images its authors keep."""
    globs = folders("images_srgb/png", "png_srgb", "DND_patches", "images_srgb", "input")
    every = photographs(*globs, tasks=("noise",))

    def find(place: Place) -> list[Pair]:
        matlab = sorted((place.root / "images_srgb").glob("*.mat"))
        if matlab and not any(images_at(place.root, glob) for glob in globs):
            raise place.error(
                f"'{matlab[0].parent}' has {len(matlab)} MATLAB files of version 7.3 (HDF5), "
                "which are not read; write each array InoisySRGB as a PNG into 'png_srgb'"
            )
        return every(place)

    return DatasetSpec(
        title="DND",
        splits={"test": Split(find=find)},
        measured=("test",),
        folders=("dnd", "dnd2017"),
        marks=("DND_patches",),
    )


def real_noise(
    title: str,
    number: int,
    *layouts: Layout,
    folders: tuple[str, ...],
    marks: tuple[str, ...] = (),
) -> DatasetSpec:
    """Return a set of noisy photographs and the means of many of each."""
    find = pairs_of_files(("noise",), *layouts)
    return DatasetSpec(
        title=title,
        splits={"test": Split(find=find, num_pairs=number)},
        measured=("test",),
        folders=folders,
        marks=marks,
    )


def cc15() -> DatasetSpec:
    """Return CC15, the fifteen cuts of Nam's photographs; cuts of one setting are one scene."""
    layout = Layout(
        lq=("*_real.*", "real/*"),
        gt=("*_mean.*", "mean/*"),
        lq_key=matching(r"(.+)_real"),
        gt_key=matching(r"(.+)_mean"),
        scene=matching(r"(.+)_\d+(?:_mean)?"),
    )
    places = ("Real_ccnoise_denoised_part", "")
    names = ("cc", "cc15", "realccnoisedenoisedpart", "crosschannel")
    layouts = [layout.inside(place) for place in places]
    return real_noise("CC15", 15, *layouts, folders=names, marks=("5dmark3_iso3200_1_real.png",))


def nam() -> DatasetSpec:
    """Return the 25 cuts of Nam's photographs that CBDNet is measured on."""
    layout = Layout(
        lq=("Nam_patches/*_noise.*", "input/*"),
        gt=("Nam_patch_GT/*_gt.*", "target/*", "gt/*"),
        lq_key=by_first_part,
        gt_key=by_first_part,
    )
    return real_noise("Nam", 25, layout, folders=("nam", "nam25"), marks=("Nam_patches",))


def polyu() -> DatasetSpec:
    """Return PolyU's hundred cuts; cuts of things of one name are one scene."""
    layout = Layout(
        lq=("*_real.*", "noisy/*"),
        gt=("*_mean.*", "clean/*"),
        lq_key=matching(r"(.+)_real"),
        gt_key=matching(r"(.+)_mean"),
        scene=matching(r".+_([A-Za-z]+)_\d+(?:_mean)?"),
    )
    layouts = [layout.inside(place) for place in ("CroppedImages", "")]
    names = ("polyu", "polyurealworldnoisyimagesdataset")
    return real_noise("PolyU", 100, *layouts, folders=names, marks=("CroppedImages",))


def paired() -> DatasetSpec:
    """Return a set of two folders with usual names, at the root or in a folder for each split."""

    def split(folder: str) -> Split:
        layout = Layout(lq=folders(*USUAL_LQ), gt=folders(*USUAL_GT)).inside(folder)
        return Split(find=pairs_of_files((), layout))

    places = {"all": "", "train": "train", "val": "val", "test": "test"}
    return DatasetSpec(
        title="pairs", splits={name: split(folder) for name, folder in places.items()}
    )
