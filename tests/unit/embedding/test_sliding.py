import pytest
import torch

from expertree.embedding import (
    ClipConfig,
    ExtractorConfig,
    build_extractor,
    extractor_hash,
    load_extractor,
    save_extractor,
)
from expertree.embedding.sliding import SlidingTower
from expertree.embedding.views import full, resize, windows
from expertree.storage import Storage

CONFIG = ExtractorConfig(
    clip=ClipConfig(image_tower="test_resnet"), embed_dim=16, view="sliding", view_px=32
)


@pytest.fixture(scope="module")
def extractor():
    return build_extractor(CONFIG, seed=1)


@pytest.mark.parametrize("size", [(32, 32), (70, 330), (20, 50)])
def test_it_is_the_mlp_of_the_small_image_and_the_mean_of_the_windows(extractor, size):
    images = torch.rand(2, 3, *size)
    sliding = extractor.visual
    with torch.no_grad():
        inputs = (full(images, 32) - extractor.mean) / extractor.std
        local = torch.stack([sliding.tower(cut).mean(dim=0) for cut in windows(inputs, 32)])
        whole = sliding.tower(resize(inputs, 32))
        expected = sliding.fusion(torch.cat([whole, local], dim=1))
    torch.testing.assert_close(extractor.embed(images), expected, atol=1e-5, rtol=1e-4)


def test_a_degradation_far_from_the_middle_is_seen(extractor):
    clean = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    spoiled = clean.clone()
    spoiled[..., :32, :32] = 0.0
    assert not torch.allclose(extractor.embed(clean), extractor.embed(spoiled), atol=1e-3)


def test_it_is_stored_like_any_other(extractor, tmp_path):
    directory = Storage.open(tmp_path)
    save_extractor(extractor, directory)
    loaded = load_extractor(directory)
    images = torch.rand(1, 3, 40, 60)
    assert torch.equal(loaded.embed(images), extractor.embed(images))
    assert extractor_hash(loaded) == extractor_hash(extractor)


def test_a_frozen_tower_keeps_its_weights_and_statistics():
    tower = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )  # fmt: skip
    sliding = SlidingTower(tower, embed_dim=4, side_px=8, frozen=True).train()
    sliding(torch.rand(2, 3, 16, 16)).sum().backward()
    assert torch.equal(tower[1].running_mean, torch.zeros(4))
    assert all(weight.grad is None for weight in tower.parameters())
    assert all(weight.grad is not None for weight in sliding.fusion.parameters())
