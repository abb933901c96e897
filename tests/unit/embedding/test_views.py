import numpy as np
import pytest
import torch
import torch.nn.functional as F

from expertree.embedding.views import (
    VIEWS,
    centre_crop,
    full,
    resize,
    visible_part,
    windows,
)


def test_a_larger_image_gives_its_middle_unchanged():
    images = torch.rand(2, 3, 21, 30)
    assert torch.equal(centre_crop(images, 10), images[:, :, 5:15, 10:20])


def test_an_image_of_the_right_size_is_the_view():
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(centre_crop(images, 16), images)


@pytest.mark.parametrize(("height", "width"), [(10, 10), (1, 3), (2, 40), (5, 16)])
def test_a_smaller_image_is_continued_by_reflection(height, width):
    images = torch.rand(1, 3, height, width)
    view = centre_crop(images, 16)
    missing = [(0, 0), (0, 0)]
    for length in (height, width):
        short = max(16 - length, 0)
        missing.append((short // 2, short - short // 2))
    mode = "reflect"
    padded = np.pad(images.numpy(), missing, mode=mode)
    top, left = ((n - 16) // 2 for n in padded.shape[-2:])
    np.testing.assert_array_equal(view.numpy(), padded[..., top : top + 16, left : left + 16])


def test_full_is_the_image_itself_and_resize_hides_noise_that_a_crop_keeps():
    torch.manual_seed(0)
    images = (0.5 + 0.1 * torch.randn(1, 3, 96, 160)).clamp(0, 1)
    assert torch.equal(full(images, 32), images)
    small = resize(images, 32)
    assert small.shape == (1, 3, 32, 32)
    assert float(small.mean()) == pytest.approx(float(images.mean()), abs=0.01)
    assert float(small.std()) < 0.5 * float(centre_crop(images, 32).std())


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_no_view_is_smaller_than_its_side(view):
    assert VIEWS[view](torch.rand(1, 3, 9, 30), 16).shape[-2:] >= (16, 16)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 50), (40, 48), (5, 20)])
def test_windows_cover_every_pixel_at_its_own_scale_with_no_more_than_needed(height, width):
    images = torch.arange(1.0, 1 + height * width).view(1, 1, height, width)
    cut = windows(images, 16)
    assert cut.shape == (1, -(-height // 16) * -(-width // 16), 1, 16, 16)
    assert set(cut.flatten().tolist()) == set(images.flatten().tolist())
    patches = F.unfold(full(images, 16), 16).transpose(1, 2).reshape(1, -1, 1, 16, 16)
    for window in cut[0]:
        assert (patches[0] == window).flatten(1).all(dim=1).any()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("height", "width"), [(5, 7), (32, 32), (33, 70), (20, 90), (129, 64)])
def test_the_visible_part_of_an_image_gives_the_view_of_the_image(view, height, width):
    image = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    part = visible_part(image, view, 32)
    tensors = [torch.from_numpy(one.transpose(2, 0, 1).copy())[None] for one in (image, part)]
    if view == "spread":
        views = [windows(tensor, 32, most=3) for tensor in tensors]
    else:
        views = [VIEWS[view](tensor, 32) for tensor in tensors]
    assert torch.equal(*views)
    if view == "centre_crop" and min(height, width) >= 32:
        assert part.shape == (32, 32, 3)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (33, 70), (96, 97), (400, 129)])
def test_the_visible_part_has_all_windows_of_a_spread_and_no_more(height, width):
    image = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    part = visible_part(image, "spread", 32)
    assert part.shape == (min(height, 96), min(width, 96), 3)
    cut, of_part = (
        windows(torch.from_numpy(one.transpose(2, 0, 1).copy())[None], 32, most=3)
        for one in (image, part)
    )
    assert torch.equal(cut, of_part)


def test_a_spread_reaches_from_border_to_border():
    images = torch.arange(200.0).view(1, 1, 1, 200).expand(1, 1, 16, 200)
    cut = windows(images, 16, most=3)
    assert cut.shape == (1, 3, 1, 16, 16)
    assert cut[0, :, 0, 0, 0].tolist() == [0.0, 92.0, 184.0]
