"""Which parts of the patch table go into which file."""

from expertree.degradation.parts import PartPlan
from expertree.degradation.photographs import Photo
from expertree.pipeline.make_patches import ROWS_PER_FILE, table_files
from expertree.pipeline.tables import leaf_directory, leaf_files

PHOTO = Photo(name="a", location="a", sha256="0", width_px=200, height_px=200)


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
