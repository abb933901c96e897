"""Which parts the patch table has, and which go into which file."""

import dataclasses

from expertree.degradation.looks import NATURAL
from expertree.degradation.paired import TrainingPair
from expertree.degradation.parts import PartPlan
from expertree.degradation.photographs import Photo
from expertree.degradation.ranges import HazeRanges, JpegRanges, RangesConfig, Span
from expertree.degradation.registry import DEFAULT_TASKS
from expertree.degradation.table import PatchSet
from expertree.pipeline.make_patches import ROWS_PER_FILE, table_files
from expertree.pipeline.patch_sets import _record, portions
from expertree.pipeline.sources import Material, Source
from expertree.pipeline.tables import leaf_directory, leaf_files

PHOTO = Photo(name="a", location="a", sha256="0", width_px=200, height_px=200)


PATCHES = PatchSet(
    name="train",
    part="train",
    severity="in",
    num_patches=100,
    mixed_fraction=0.4,
    patch_px=32,
    tasks=DEFAULT_TASKS,
    clean_fraction=0.1,
    looks=NATURAL,
    takes_pairs=True,
)


def part(num_rows: int) -> PartPlan:
    return PartPlan(
        photo=PHOTO,
        patch_set="train",
        severity="in",
        patch_px=64,
        prefix="train/0000-a",
        seed=0,
        first=0,
        tasks=("noise",),
        kinds=bytes(num_rows),
    )


def test_files_hold_whole_parts_in_order() -> None:
    parts = [part(200) for _ in range(4)]
    files = table_files(parts)
    assert [(name, len(chunk)) for name, chunk in files] == [
        ("part-00000.parquet", 3),
        ("part-00001.parquet", 1),
    ]
    assert [p for _, chunk in files for p in chunk] == parts
    assert 3 * 200 >= ROWS_PER_FILE > 2 * 200


def test_a_node_reads_the_directories_of_its_leaves_and_nothing_else() -> None:
    names = [f"{leaf_directory(leaf)}/part-00000.parquet" for leaf in (0, 1, 10, 100)]
    assert leaf_files(names, [1, 100]) == [names[1], names[3]]


def test_portions_of_a_set_keep_its_mixtures_among_what_is_synthesised() -> None:
    photos = tuple(
        Photo(name=f"{n}", location="", sha256=f"{n:064x}", width_px=64, height_px=64)
        for n in range(2)
    )
    pair = TrainingPair(name="p", tasks=("rain",), lq=photos[0], gt=photos[1])
    material = Material(
        sources=[
            Source(label="", weight=1.0, photos=photos[:1], splits={"0": "train"}),
            Source(label="r", weight=1.0, pairs=(pair,), splits={"p": "train"}),
        ]
    )
    own, pairs = portions(PATCHES, material)
    assert (own.patch_set.num_patches, pairs.patch_set.num_patches) == (55, 45)
    assert round(own.patch_set.mixed_fraction * 55) == 20
    assert round(own.patch_set.clean_fraction * 55) == 10
    without = dataclasses.replace(PATCHES, takes_pairs=False)
    assert [one.patch_set for one in portions(without, material)] == [without]


def test_scales_of_ranges_are_recorded_where_they_are_not_linear() -> None:
    linear = Span(usual=(88.0, 9.0), beyond=(9.0, 6.0))
    haze = HazeRanges(beta=Span(usual=(0.5, 2.0), beyond=(2.0, 3.0)))

    def recorded(quality: Span) -> str:
        ranges = RangesConfig(jpeg=JpegRanges(quality=quality), haze=haze)
        return str(_record(dataclasses.replace(PATCHES, ranges=ranges))["ranges"])

    assert "scale'" not in recorded(linear)
    assert recorded(dataclasses.replace(linear, scale="log")).count("'scale': 'log'") == 1
