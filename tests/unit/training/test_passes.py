"""Each pass is a permutation of its own, made once and not at every step."""

import numpy as np

from expertree.embedding import ExtractorRecipe
from expertree.embedding.recipe import batch_at
from expertree.training.passes import indices_at, order_of_pass


def test_each_pass_sees_every_patch_once():
    indices = indices_at(range(30), num_patches=10, seed=1)
    passes = [indices[n : n + 10] for n in (0, 10, 20)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_a_position_is_a_place_in_the_permutation_of_its_pass():
    orders = [np.random.default_rng([7, turn]).permutation(11) for turn in range(3)]
    expected = np.concatenate(orders).tolist()
    assert indices_at(range(33), num_patches=11, seed=7) == expected
    assert indices_at([32, 0, 15], num_patches=11, seed=7) == [
        expected[position] for position in (32, 0, 15)
    ]


def test_the_steps_of_a_pass_of_the_extractor_share_one_permutation():
    recipe = ExtractorRecipe(batch_size=8)
    before = order_of_pass.cache_info().misses
    for step in range(100):
        batch_at(recipe, step, num_patches=1009, seed=99)
    assert order_of_pass.cache_info().misses == before + 1
