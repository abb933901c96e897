"""Patches are the same however the files are laid out, and only what is needed is read."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from expertree.errors import ArtefactError
from expertree.experts.patch_cache import PatchCache
from expertree.experts.patches import read_patches
from expertree.images.io import decode_u8
from expertree.storage import Storage


def expected_images(table, side, ids):
    """The obvious way: filter the whole table, decode each row."""
    encoded = dict(zip(table["id"].to_pylist(), table[side].to_pylist(), strict=True))
    return torch.from_numpy(np.stack([decode_u8(encoded[i]) for i in ids])).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("num_files", "rows_per_group"), [(1, 64), (1, 3), (4, 2), (20, 1)])
@pytest.mark.parametrize("cache_bytes", [0, 5 * 24 * 24 * 3, 1 << 30])
def test_sharded_reading_equals_filtering_a_whole_table(
    storage, table, write_files, num_files, rows_per_group, cache_bytes
):
    names = write_files(storage, table, num_files, rows_per_group)
    patches = read_patches(storage, names, cache=PatchCache(cache_bytes))
    ids = sorted(table["id"].to_pylist())
    assert patches.ids.to_pylist() == ids
    for indices in ([3, 17, 3, 0], list(range(20)), [19]):
        chosen = [ids[i] for i in indices]
        lq, gt = patches.pair(indices)
        assert lq.dtype == torch.uint8
        assert torch.equal(lq, expected_images(table, "lq", chosen))
        assert torch.equal(gt, expected_images(table, "gt", chosen))


def test_a_node_of_some_files_equals_filtering_the_table_by_its_rows(storage, files):
    node = read_patches(storage, files[:2])
    parts = [pq.read_table(io.BytesIO(storage.read_bytes(name))) for name in files[:2]]
    whole = pa.concat_tables(parts).sort_by("id")
    ids = node.ids.to_pylist()
    assert ids == whole["id"].to_pylist()
    assert node.recipes(range(len(node))) == whole["recipe"].to_pylist()
    assert node.captions == whole["caption"].to_pylist()
    assert node.tasks == [tuple(tasks) for tasks in whole["tasks"].to_pylist()]
    assert torch.equal(node.lq(range(len(node))), expected_images(whole, "lq", ids))


@pytest.mark.parametrize("side_px", [10, 11, 24, 40])
def test_the_middle_of_patches_is_that_of_whole_ones(storage, files, side_px):
    whole = read_patches(storage, files)
    middle = read_patches(storage, files, middle_px=side_px)
    indices, kept = [2, 0, 5], min(side_px, 24)
    start = (24 - kept) // 2
    part = slice(start, start + kept)
    for ours, theirs in zip(middle.pair(indices), whole.pair(indices), strict=True):
        assert torch.equal(ours, theirs[:, :, part, part])
    assert all(image.flags["C_CONTIGUOUS"] for image in middle.images("gt", indices))


def test_other_files_are_not_opened(storage, files):
    storage.write_bytes(files[2], b"damaged")
    patches = read_patches(storage, files[:2])
    assert len(patches) == 14
    patches.pair(range(14))


def test_bytes_read_are_those_of_the_column_asked_for(storage, files):
    patches = read_patches(storage, files)
    after_opening = patches.num_bytes_read
    expected = 0
    for name in files:
        metadata = pq.ParquetFile(io.BytesIO(storage.read_bytes(name))).metadata
        for group in (metadata.row_group(n).to_dict() for n in range(metadata.num_row_groups)):
            sizes = {c["path_in_schema"]: c["total_compressed_size"] for c in group["columns"]}
            expected += sizes["lq"]
    patches.lq(range(20))
    assert patches.num_bytes_read - after_opening == expected


def test_what_fits_the_cache_is_read_once(storage, files):
    patches = read_patches(storage, files)
    patches.pair(range(20))
    after_first = patches.num_bytes_read
    patches.pair([5, 3])
    assert patches.num_bytes_read == after_first


def test_without_cache_images_are_read_again(storage, files):
    patches = read_patches(storage, files, cache=PatchCache(0))
    patches.lq([0])
    after_first = patches.num_bytes_read
    patches.lq([0])
    assert patches.num_bytes_read > after_first


def encoded_bytes(table, side, ids):
    encoded = dict(zip(table["id"].to_pylist(), table[side].to_pylist(), strict=True))
    return sum(len(encoded[i]) for i in ids)


@pytest.mark.parametrize("use_dictionary", [False, True])
def test_beyond_the_cache_a_patch_is_read_without_its_neighbours(
    storage, table, write_files, use_dictionary
):
    (name,) = write_files(storage, table, 1, 20)
    whole = pq.read_table(storage.path(name), filesystem=storage.filesystem)
    pq.write_table(whole, storage.path(name), compression="none", use_dictionary=use_dictionary)
    patches = read_patches(storage, [name], cache=PatchCache(0))
    patches.lq([4])
    ids = patches.ids.to_pylist()
    for index in (4, 11):
        before = patches.num_bytes_read
        found = patches.lq([index])
        assert patches.num_bytes_read - before == encoded_bytes(table, "lq", [ids[index]])
        assert torch.equal(found, expected_images(table, "lq", [ids[index]]))


def test_what_is_compressed_is_read_by_row_group(storage, table):
    storage.filesystem.create_dir(storage.path(), recursive=True)
    pq.write_table(table, storage.path("part.parquet"), compression="zstd")
    patches = read_patches(storage, ["part.parquet"], cache=PatchCache(0))
    for index in (3, 8, 3):
        expected = expected_images(table, "lq", [patches.ids[index].as_py()])
        assert torch.equal(patches.lq([index]), expected)


def test_a_pass_over_twice_the_cache_finds_half_of_it(storage, table, write_files):
    names = write_files(storage, table, 2, 1)
    patches = read_patches(storage, names, cache=PatchCache(10 * 24 * 24 * 3))
    patches.lq(range(20))
    for seed in (0, 1):
        num_read = 0
        for index in np.random.default_rng(seed).permutation(20).tolist():
            before = patches.num_bytes_read
            patches.lq([index])
            num_read += patches.num_bytes_read > before
        assert num_read == 10


def test_sets_share_one_budget_and_the_newest_takes_it(storage, table, write_files):
    names = write_files(storage, table, 2)
    cache = PatchCache(12 * 24 * 24 * 3)
    one, other = (read_patches(storage, [name], cache=cache) for name in names)
    one.lq(range(10))
    for patches in (other, one):
        patches.lq(range(10))
        assert cache.num_bytes == cache.max_bytes
        before = patches.num_bytes_read
        patches.lq(range(10))
        assert patches.num_bytes_read == before
    del one, patches
    assert cache.num_bytes == 2 * 24 * 24 * 3
    del other
    assert cache.num_bytes == 0


def test_threads_read_the_same_patches(storage, table, write_files):
    names = write_files(storage, table, 4, 3)
    for max_bytes in (0, 7 * 24 * 24 * 3, 1 << 30):
        patches = read_patches(storage, names, cache=PatchCache(max_bytes))
        ids = patches.ids.to_pylist()

        def draw(seed, patches=patches):
            return patches.lq(np.random.default_rng(seed).permutation(20).tolist())

        with ThreadPoolExecutor(4) as pool:
            drawn = list(pool.map(draw, range(40)))
        for seed, found in enumerate(drawn):
            order = np.random.default_rng(seed).permutation(20)
            assert torch.equal(found, expected_images(table, "lq", [ids[i] for i in order]))


def test_opening_reads_each_file_once_and_its_ids_alone(storage, table, write_files, monkeypatch):
    names = write_files(storage, table, 4, 1)
    opened = []
    filesystem = storage.filesystem

    class Watched:
        def open_input_file(self, path):
            opened.append(path)
            return filesystem.open_input_file(path)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "filesystem", property(lambda _: Watched()))
        patches = read_patches(storage, names)
    assert sorted(opened) == [storage.path(name) for name in names]
    assert patches.tasks == [tuple(t) for t in table.sort_by("id")["tasks"].to_pylist()]


def test_a_file_listed_twice_is_refused(storage, files):
    with pytest.raises(ArtefactError, match="listed twice"):
        read_patches(storage, [*files, files[0]])


def test_a_missing_file_is_named(storage, files):
    with pytest.raises(ArtefactError, match=r"part-999\.parquet"):
        read_patches(storage, [*files, "part-999.parquet"])


def test_a_file_that_is_not_parquet_is_named(storage, files):
    storage.write_bytes(files[1], b"not parquet at all")
    with pytest.raises(ArtefactError, match=files[1]):
        read_patches(storage, files)


def test_a_table_without_captions_is_refused(storage, table, write_files):
    names = write_files(storage, table.drop_columns(["caption"]), 1)
    with pytest.raises(ArtefactError, match="no column caption"):
        read_patches(storage, names)


def test_a_damaged_image_is_named(storage, table, write_files):
    lq = table["lq"].to_pylist()
    lq[7] = b"\x89PNG but no more"
    position = table.column_names.index("lq")
    names = write_files(storage, table.set_column(position, "lq", [lq]), 1)
    patches = read_patches(storage, names)
    with pytest.raises(ArtefactError, match=f"{table['id'][7].as_py()}, column lq"):
        patches.lq(range(20))


def test_images_of_several_sizes_do_not_make_a_batch(storage, make_table, write_files):
    small, large = make_table(2, size_px=8), make_table(4, size_px=16).slice(0, 4)
    large = large.set_column(0, "id", [[f"z{n}" for n in range(4)]])
    names = write_files(storage, pa.concat_tables([small, large]), 1)
    patches = read_patches(storage, names)
    assert patches.lq([0, 1]).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="one size"):
        patches.lq([0, 5])


def test_any_filesystem_serves(tmp_path, table, write_files):
    storage = Storage.open((tmp_path / "as a uri").as_uri())
    names = write_files(storage, table, 2)
    assert len(read_patches(storage, names)) == 20
