"""What a step sees is a function of the seed and the position alone."""

import numpy as np
import pytest
import torch

from expertree.degradation.fresh import NO_REAL_MAPS, FreshDegradation
from expertree.degradation.recipe import NO_RECIPE
from expertree.experts.patches import read_patches
from expertree.experts.sampling import cut, draw_batch
from expertree.training import indices_at


def test_a_batch_is_the_same_however_the_positions_are_grouped(storage, files):
    patches = read_patches(storage, files)
    whole = draw_batch(patches, range(12), patch_px=16, augment=True, seed=3)
    parts = [
        draw_batch(patches, range(n, n + 4), patch_px=16, augment=True, seed=3) for n in (0, 4, 8)
    ]
    assert torch.equal(whole.lq, torch.cat([part.lq for part in parts]))
    assert torch.equal(whole.gt, torch.cat([part.gt for part in parts]))
    assert list(whole.tasks) == [tasks for part in parts for tasks in part.tasks]
    assert {len(tasks) for tasks in whole.tasks} == {1}


def test_pairs_are_treated_alike_and_scaled(storage, table, write_files):
    twins = table.set_column(table.column_names.index("lq"), "lq", table["gt"])
    patches = read_patches(storage, write_files(storage, twins, 2))
    batch = draw_batch(patches, range(20), patch_px=16, augment=True, seed=0)
    lq = batch.lq
    assert torch.equal(lq, batch.gt)
    assert lq.dtype == torch.float32
    assert lq.is_contiguous(memory_format=torch.channels_last)
    assert 0.9 < float(lq.max()) <= 1.0
    assert float(lq.min()) >= 0.0


def test_seeds_differ(storage, files):
    patches = read_patches(storage, files)
    one, other = (
        draw_batch(patches, range(8), patch_px=16, augment=True, seed=seed).lq for seed in (0, 1)
    )
    assert not torch.equal(one, other)


def test_cuts_take_all_orientations_and_places():
    image = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    rng = np.random.default_rng(0)
    bits = rng.integers(1 << 63, size=2000).tolist()
    found = {cut(image, b, patch_px=3, augment=True).tobytes() for b in bits}
    places = [image[y : y + 3, x : x + 3] for y in range(4) for x in range(3)]
    turned = [
        np.rot90(flip, k) for place in places for flip in (place, place[::-1]) for k in range(4)
    ]
    assert found == {np.ascontiguousarray(one).tobytes() for one in turned}


def test_without_augmentation_only_the_place_changes():
    image = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)
    bits = np.random.default_rng(0).integers(1 << 63, size=500).tolist()
    found = {cut(image, b, patch_px=5, augment=False).tobytes() for b in bits}
    assert found == {image[y : y + 5, x : x + 5].tobytes() for y in (0, 1) for x in (0, 1)}


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"9 px.*6 x 8 px"):
        cut(np.zeros((6, 8, 3), np.uint8), 0, patch_px=9, augment=True)


def test_pairs_keep_their_degradation_where_all_else_is_degraded_anew(storage, table, write_files):
    recipes = table["recipe"].to_pylist()
    rows = table.to_pylist()
    pairs = {row["id"] for row in rows[::2]}
    mixed = [NO_RECIPE if n % 2 == 0 else text for n, text in enumerate(recipes)]
    place = table.column_names.index("recipe")
    patches = read_patches(
        storage, write_files(storage, table.set_column(place, "recipe", [mixed]), 2)
    )
    settings = {"patch_px": 16, "augment": True, "seed": 4}
    stored = draw_batch(patches, range(len(rows)), **settings)
    fresh = draw_batch(patches, range(len(rows)), **settings, fresh=FreshDegradation(NO_REAL_MAPS))
    indices = indices_at(range(len(rows)), num_patches=len(patches), seed=4)
    is_pair = [patches.ids[index].as_py() in pairs for index in indices]
    same = [torch.equal(a, b) for a, b in zip(stored.lq, fresh.lq, strict=True)]
    assert any(is_pair)
    assert not all(is_pair)
    assert same == is_pair
    assert torch.equal(stored.gt, fresh.gt)
