"""What an extractor sees in images, for networks that are told of it."""

from typing import get_args

import pytest
import torch

from expertree.embedding import ExtractorConfig, build_extractor, look
from expertree.embedding.looking import SIGHTS
from expertree.embedding.views import centre_crop, resize
from expertree.experts.conditions import SEEN, Source


@pytest.fixture(scope="module")
def extractor():
    return build_extractor(ExtractorConfig(embed_dim=16, view_px=64))


@pytest.mark.parametrize("size", [(3, 5), (24, 24), (130, 70), (300, 260)])
def test_everything_is_seen_in_images_of_any_size(extractor, size):
    found = look(extractor, torch.rand(2, 3, *size), list(SIGHTS))
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    assert shapes == {
        "embedding": (2, 16),
        "squeezed": (2, 16),
        "cells": (2, 16, 16),
        "overview": (2, 3, 64, 64),
    }
    assert all(value.dtype == torch.float32 for value in found.values())


def test_networks_may_ask_for_all_that_is_seen():
    assert set(SIGHTS) == set(SEEN) == set(get_args(Source)) - {"sentence"}


def test_cells_are_where_they_are_in_the_image(extractor):
    image = torch.rand(1, 3, 280, 320)
    cells = look(extractor, image, ["cells"])["cells"][0]
    for row, column in ((0, 0), (1, 3), (3, 2)):
        cell = image[..., row * 70 : row * 70 + 70, column * 80 : column * 80 + 80]
        with torch.no_grad():
            expected = extractor.encode(centre_crop(cell, 64))[0]
        torch.testing.assert_close(cells[4 * row + column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (40, 66), (130, 67), (7, 9)])
def test_cells_of_a_small_image_are_where_they_are_in_it(extractor, size):
    image = torch.rand(1, 3, *size)
    cells = look(extractor, image, ["cells"])["cells"][0]
    for row, column in ((0, 0), (1, 2), (3, 3)):
        rows, columns = (
            slice(place * side // 4, (place + 1) * side // 4)
            for place, side in zip((row, column), size, strict=True)
        )
        with torch.no_grad():
            expected = extractor.encode(centre_crop(image[..., rows, :][..., columns], 32))[0]
        torch.testing.assert_close(cells[4 * row + column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side_px", [8, 64, 66, 127])
def test_what_lies_in_one_corner_of_a_small_image_is_seen_in_its_cell_alone(extractor, side_px):
    image = torch.rand(1, 3, side_px, side_px)
    changed = image.clone()
    changed[..., -2:, -2:] = 1.0 - changed[..., -2:, -2:]
    before, after = (look(extractor, one, ["cells"])["cells"][0] for one in (image, changed))
    moved = (before - after).abs().amax(dim=1) > 1e-6
    assert moved.tolist() == [False] * 15 + [True]


def test_what_is_seen_is_the_extractors_own(extractor):
    image = torch.rand(1, 3, 100, 90)
    found = look(extractor, image, ["embedding", "squeezed"])
    assert torch.equal(found["embedding"], extractor.embed(image))
    with torch.no_grad():
        assert torch.equal(found["squeezed"], extractor.encode(resize(image, 64)))
    assert not found["squeezed"].requires_grad


def test_an_unknown_name_is_refused(extractor):
    with pytest.raises(ValueError, match="nothing is known of 'depth'; there are embedding"):
        look(extractor, torch.rand(1, 3, 8, 8), ["depth"])
