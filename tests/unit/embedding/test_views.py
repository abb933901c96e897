import numpy as np
import pytest
import torch

from expertree.embedding.views import centre_crop


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
