"""Mixing an image with its restoration: exact at both ends, the nearest value between."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from expertree.images.mixing import mix


def two_u8(seed: int = 0, height_px: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (height_px, 7, 3)
    return rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 256, shape, dtype=np.uint8)


def test_both_ends_are_the_images_themselves() -> None:
    before, after = two_u8()
    assert mix(before, after, 0.0) is before
    assert mix(before, after, 1.0) is after
    tensors = torch.rand(2, 3, 4, 5)
    assert torch.equal(mix(tensors[0], tensors[1], 0.0), tensors[0])
    assert torch.equal(mix(tensors[0], tensors[1], 1.0), tensors[1])


@given(st.integers(0, 255), st.integers(0, 255), st.floats(0.0, 1.0))
def test_a_value_is_the_nearest_to_its_place_between_the_two(
    low: int, high: int, strength: float
) -> None:
    before, after = (np.full((1, 1, 3), value, dtype=np.uint8) for value in (low, high))
    value = int(mix(before, after, strength)[0, 0, 0])
    assert min(low, high) <= value <= max(low, high)
    assert abs(value - (low + strength * (high - low))) <= 0.5 + 1e-9


def test_large_images_are_mixed_block_by_block_to_the_same_values() -> None:
    before, after = two_u8(height_px=150)
    slow = np.floor(before + 0.3 * (after.astype(np.float64) - before) + 0.5)
    mixed = mix(before, after, 0.3)
    assert mixed.dtype == np.uint8
    assert np.array_equal(mixed, slow)


def test_floats_are_mixed_without_rounding_to_grey_levels() -> None:
    before, after = np.float32([[[0.1, 0.2, 0.3]]]), np.float32([[[0.2, 0.2, 0.1]]])
    mixed = mix(before, after, 0.25)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, [[[0.125, 0.2, 0.25]]], atol=1e-7)


@pytest.mark.parametrize("strength", [-0.1, 1.0001, float("nan")])
def test_what_is_no_strength_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be from 0 to 1, got"):
        mix(*two_u8(), strength)


def test_images_that_do_not_belong_together_are_refused() -> None:
    before, after = two_u8()
    with pytest.raises(ValueError, match="cannot be mixed with one of"):
        mix(before, after[:4], 0.5)
    with pytest.raises(ValueError, match="cannot be mixed with one of"):
        mix(before, after.astype(np.float32), 0.5)
