import math

import pytest
import torch
import torch.nn.functional as F

from expertree.embedding.objective import multi_positive_loss, spherical_loss


def slow_loss(images, captions, caption_of, scale):
    """One image and one caption at a time."""
    images = F.normalize(images, dim=1)
    total = 0.0
    for image, own in zip(images, caption_of.tolist(), strict=True):
        exps = [math.exp(scale * float(image @ caption)) for caption in captions]
        total -= math.log(exps[own] / sum(exps))
    for row, caption in enumerate(captions):
        exps = [math.exp(scale * float(image @ caption)) for image in images]
        owners = [i for i, own in enumerate(caption_of.tolist()) if own == row]
        total -= sum(math.log(exps[i] / sum(exps)) for i in owners)
    return total / (2 * len(images))


def test_the_loss_equals_its_definition():
    torch.manual_seed(0)
    images, captions = torch.randn(9, 5), F.normalize(torch.randn(4, 5), dim=1)
    caption_of, scale = torch.tensor([0, 0, 1, 2, 3, 3, 3, 1, 0]), torch.tensor(3.0)
    found = multi_positive_loss(images, captions, caption_of, scale)
    assert float(found) == pytest.approx(slow_loss(images, captions, caption_of, 3.0), rel=1e-5)


def test_duplicates_of_a_caption_do_not_keep_the_image_side_from_zero():
    captions = torch.eye(2)
    caption_of = torch.tensor([0, 0, 0, 1])
    images = captions[caption_of]
    loss = multi_positive_loss(images, captions, caption_of, torch.tensor(100.0))
    entropy_of_equal_targets = (3 * math.log(3) + 1 * math.log(1)) / 4
    assert float(loss) == pytest.approx(entropy_of_equal_targets / 2, abs=1e-4)


def test_the_length_of_an_image_embedding_does_not_matter():
    torch.manual_seed(0)
    images, captions = torch.randn(6, 5), F.normalize(torch.randn(2, 5), dim=1)
    caption_of, scale = torch.tensor([0, 1, 0, 1, 1, 1]), torch.tensor(10.0)
    short = multi_positive_loss(images, captions, caption_of, scale)
    long = multi_positive_loss(7 * images, captions, caption_of, scale)
    torch.testing.assert_close(short, long)


def test_the_spherical_loss_is_the_sum_of_its_three_parts():
    torch.manual_seed(1)
    images, centres = F.normalize(torch.randn(5, 4), dim=1), F.normalize(torch.randn(3, 4), dim=1)
    centre_of, scale = torch.tensor([0, 1, 0, 2, 1]), torch.tensor(4.0)
    classified = sum(
        -torch.log_softmax(4.0 * centres @ image, dim=0)[row]
        for image, row in zip(images, centre_of, strict=True)
    )
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    same = [float(images[i] @ images[j]) for i, j in pairs if centre_of[i] == centre_of[j]]
    other = [float(images[i] @ images[j]) for i, j in pairs if centre_of[i] != centre_of[j]]
    contrast = max(sum(other) / len(other) - sum(same) / len(same) + 0.9, 0.0)
    near = [max(float(centres[i] @ centres[j]), 0) ** 2 for i, j in pairs if max(i, j) < 3]
    expected = classified / 5 + contrast + sum(near) / 6
    found = spherical_loss(images, centres, centre_of, scale, margin=0.9)
    torch.testing.assert_close(found, expected)


def test_the_spherical_loss_is_only_the_classification_where_classes_are_well_apart():
    sphere = torch.eye(3)
    rows = torch.tensor([0, 1, 2, 0])
    found = spherical_loss(sphere[rows], sphere, rows, torch.tensor(100.0), margin=0.5)
    assert float(found) == pytest.approx(0.0, abs=1e-6)
    alone = spherical_loss(sphere[:1], sphere[:1], rows[:1], torch.tensor(1.0), margin=0.5)
    assert float(alone) == 0.0
