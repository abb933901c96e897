import itertools
from collections import Counter

import pytest
import torch

from expertree.embedding import ExtractorRecipe
from expertree.embedding.recipe import batch_at, crop_px_at, crops_at, distinct, rate_share_at


def test_every_pass_shows_each_patch_once_in_another_order():
    recipe = ExtractorRecipe(batch_size=8)
    rows = [r for step in range(5) for r in batch_at(recipe, step, num_patches=20, seed=0)]
    first, second = rows[:20], rows[20:]
    assert set(Counter(first).values()) == {1}
    assert sorted(first) == sorted(second)
    assert first != second


def test_a_batch_depends_on_seed_and_step_only():
    recipe = ExtractorRecipe(batch_size=8)
    batches = [batch_at(recipe, 7, num_patches=20, seed=seed) for seed in (0, 0, 1)]
    assert batches[0] == batches[1] != batches[2]


def test_a_batch_larger_than_the_data_repeats_it():
    rows = batch_at(ExtractorRecipe(batch_size=8), 0, num_patches=3, seed=0)
    assert set(rows) == {0, 1, 2}
    assert len(rows) == 8


def test_crops_are_pieces_of_their_images_and_repeat_with_the_step():
    recipe = ExtractorRecipe(crop_px=4)
    images = torch.randint(0, 256, (5, 3, 9, 7), dtype=torch.uint8)
    crops = crops_at(images, recipe, 3, seed=0)
    assert crops.shape == (5, 3, 4, 4)
    for crop, image in zip(crops, images, strict=True):
        assert set(crop.flatten().tolist()) <= set(image.flatten().tolist())
    assert torch.equal(crops, crops_at(images, recipe, 3, seed=0))
    assert not torch.equal(crops, crops_at(images, recipe, 4, seed=0))


def test_crops_are_mirrored_but_never_stand_on_their_heads():
    rows = torch.arange(8, dtype=torch.uint8).view(1, 1, 8, 1).expand(6, 3, 8, 8)
    columns = rows.transpose(2, 3)
    recipe = ExtractorRecipe(crop_px=8)
    assert torch.equal(crops_at(rows, recipe, 0, seed=0), rows)
    firsts = {crop[0, 0, 0].item() for crop in crops_at(columns, recipe, 0, seed=0)}
    assert firsts == {0, 7}


def test_a_share_of_the_crops_has_its_colours_in_another_order():
    images = torch.arange(3, dtype=torch.uint8).view(1, 3, 1, 1).expand(200, 3, 8, 8)
    crops = crops_at(images, ExtractorRecipe(crop_px=8, swapped_share=0.6), 0, seed=0)
    orders = [tuple(crop[:, 0, 0].tolist()) for crop in crops]
    assert set(orders) == set(itertools.permutations(range(3)))
    # Of six orders one is the old one.
    assert sum(order == (0, 1, 2) for order in orders) == pytest.approx(200 * (1 - 0.5), abs=30)
    as_they_are = crops_at(images, ExtractorRecipe(crop_px=8, swapped_share=0.0), 0, seed=0)
    assert torch.equal(as_they_are, images)


def test_the_last_quarter_of_the_steps_takes_larger_crops():
    recipe = ExtractorRecipe(num_steps=8, crop_px=4, last_crop_px=6)
    assert [crop_px_at(recipe, step) for step in range(8)] == [4] * 6 + [6] * 2
    assert crops_at(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), recipe, 7, seed=0).shape[-1] == 6
    assert crop_px_at(ExtractorRecipe(num_steps=8, crop_px=4), 7) == 4


def test_crops_larger_than_the_patches_are_refused():
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(ValueError, match="crops are 96 px, but the patches are 64 x 64 px; lower"):
        crops_at(images, ExtractorRecipe(crop_px=96), 0, seed=0)


def test_the_learning_rate_rises_then_falls_to_zero():
    recipe = ExtractorRecipe(num_steps=100, warmup_fraction=0.1)
    rates = [rate_share_at(recipe, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


def test_distinct_captions_are_sorted_and_numbered():
    assert distinct(["b", "a", "b"]) == (["a", "b"], [1, 0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"warmup_fraction": 1.0}, "warmup_fraction must lie in"),
        ({"swapped_share": 1.5}, "swapped_share must lie in"),
        ({"last_crop_px": 0}, "last_crop_px must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ExtractorRecipe(**change)
