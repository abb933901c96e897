"""The model leaves what is good as it is, unless one insists; and mixes in part."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from expertree import Restorer
from expertree.images.io import to_float
from expertree.restorer.per_tile import restore_per_tile
from expertree.routing import Wish
from networks import NETWORK_ATOL


def test_seconds_are_told_by_stage(careful: Restorer, two_kinds: tuple[np.ndarray, ...]) -> None:
    spoiled, good = two_kinds
    assert set(careful.restore(spoiled).seconds) == {"route", "restore"}
    assert set(careful.restore(good).seconds) == {"route"}


class _CountingRestorer(Restorer):
    """Counts the experts that it runs."""

    num_runs = 0

    @contextlib.contextmanager
    def expert(self, node: int) -> Iterator[nn.Module]:
        self.num_runs += 1
        with super().expert(node) as network:
            yield network


@pytest.fixture
def careful(careful_bundle_path: Path) -> _CountingRestorer:
    return _CountingRestorer.load(careful_bundle_path)


def test_what_is_better_left_as_it_is_comes_back_to_the_bit_and_no_expert_runs(
    careful: _CountingRestorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    _, good = two_kinds
    restoration = careful.restore(good)
    assert np.array_equal(restoration.image, good)
    assert restoration.image is not good
    assert (restoration.route.expert, restoration.num_tiles) == (None, 0)
    assert restoration.route.gain_db <= careful.bundle.router.as_is_margin_db
    exact = to_float(good)
    assert torch.equal(careful.restore(exact).image, exact)
    assert careful.num_runs == 0


def test_whoever_insists_or_names_what_is_wrong_gets_an_expert(
    careful: _CountingRestorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    spoiled, good = two_kinds
    left = careful.route(good)
    insisted = careful.restore(good, Wish(insist=True))
    assert insisted.route.expert == careful.tree.expert_of(left.node)
    assert insisted.route.gain_db == left.gain_db
    asked = careful.restore(good, Wish(expert=insisted.route.expert))
    assert np.array_equal(insisted.image, asked.image)
    for wish in ({"level": 1}, {"confidence": 2}, {"expert": 0}, {"instruction": ["rain"]}):
        assert careful.route(good, Wish(**wish)).expert is not None
    assert careful.route(spoiled, Wish(insist=True)) == dataclasses.replace(
        careful.route(spoiled), confidence=careful.route(spoiled, Wish(insist=True)).confidence
    )


def test_strength_mixes_image_and_restoration_exact_at_both_ends(
    careful: _CountingRestorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    spoiled, _ = two_kinds
    whole = careful.restore(spoiled).image
    careful.num_runs = 0
    nothing = careful.restore(spoiled, Wish(strength=0.0))
    assert np.array_equal(nothing.image, spoiled)
    assert nothing.route.expert is not None
    assert (nothing.num_tiles, careful.num_runs) == (0, 0)
    assert np.array_equal(careful.restore(spoiled, Wish(strength=1.0)).image, whole)
    part = careful.restore(spoiled, Wish(strength=0.4))
    expected = np.floor(spoiled + 0.4 * (whole.astype(np.float64) - spoiled) + 0.5)
    assert np.array_equal(part.image, expected)
    tensor = careful.restore(to_float(spoiled), Wish(strength=0.4)).image
    # Rounded twice in uint8: the restoration, of which four tenths count, and the mix.
    assert float(abs(tensor - to_float(part.image)).max()) <= 1.4 * NETWORK_ATOL + 1e-6


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_a_strength_that_cannot_be_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be from 0 to 1"):
        Wish(strength=strength)


def test_each_tile_decides_whether_it_is_left_as_it_is(
    careful: _CountingRestorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    spoiled, good = (np.tile(image, (4, 4, 1))[:128, :128] for image in two_kinds)
    alone = functools.partial(restore_per_tile, careful, overlap_px=0)
    image = to_float(np.concatenate([good, spoiled], axis=1))
    restored, routes = alone(image, Wish(tile_px=64))
    stays = [route.expert is None for route in routes]
    assert any(stays)
    assert not all(stays)
    for route in routes:
        rows = slice(route.top_px, route.top_px + route.height_px)
        columns = slice(route.left_px, route.left_px + route.width_px)
        tile, made = image[:, rows, columns], restored[:, rows, columns]
        # Blending divides by the sum of weights, which is 1 to a few units of float32.
        is_same = bool(torch.allclose(made, tile, atol=1e-6))
        assert is_same == (route.expert is None)
    assert torch.equal(alone(image, Wish(tile_px=64, strength=0.0))[0], image)
    left = to_float(np.concatenate([good, good], axis=1))
    same, routes = alone(left, Wish(tile_px=64))
    assert all(route.expert is None for route in routes)
    assert torch.equal(same, left)
