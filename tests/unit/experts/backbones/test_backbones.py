"""The registry: sizes that the literature states, and any image size."""

import pytest
import torch

from expertree.experts.backbones import (
    BACKBONES,
    BackboneConfig,
    build_backbone,
    describe_backbone,
)

GOPRO = BackboneConfig(width=32, encoder=(1, 1, 1, 28), middle=1, decoder=(1, 1, 1, 1))
SIDD = BackboneConfig(width=32, encoder=(2, 2, 4, 8), middle=12, decoder=(2, 2, 2, 2))
TINY = BackboneConfig(width=4, encoder=(1, 1), middle=1, decoder=(1, 1))


@pytest.mark.parametrize(
    ("config", "num_parameters", "multiply_adds_512"),
    [
        (GOPRO, 17_111_907, 63_817_492_480),
        (SIDD, 29_159_715, 64_168_382_464),
        (BackboneConfig(), 288_691, 4_124_076_544),
    ],
)
def test_descriptor_has_the_size_of_the_literature(config, num_parameters, multiply_adds_512):
    descriptor = describe_backbone(config)
    assert descriptor.num_parameters == num_parameters
    assert descriptor.multiply_adds_512 == multiply_adds_512
    assert descriptor.multiple_px == 2 ** len(config.encoder)


def test_descriptor_counts_what_is_built():
    network = build_backbone(TINY)
    num_parameters = sum(p.numel() for p in network.parameters())
    assert describe_backbone(TINY).num_parameters == num_parameters


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (17, 30)])
def test_any_image_size_keeps_its_size(size):
    network = build_backbone(TINY)
    with torch.inference_mode():
        assert network(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_padding_is_reflection():
    network = build_backbone(TINY).eval()
    image = torch.rand(1, 3, 10, 11)
    by_hand = torch.nn.functional.pad(image, (0, 1, 0, 2), mode="reflect")
    with torch.inference_mode():
        expected = network(by_hand)[..., :10, :11]
        torch.testing.assert_close(network(image), expected, rtol=0, atol=0)


def test_unknown_name_lists_what_there_is():
    with pytest.raises(ValueError, match=r"'swinir'.*nafnet"):
        build_backbone(BackboneConfig(name="swinir"))


@pytest.mark.parametrize(
    "config",
    [
        BackboneConfig(encoder=(1, 1), decoder=(1,)),
        BackboneConfig(encoder=(), decoder=()),
        BackboneConfig(width=0),
        BackboneConfig(middle=-1),
    ],
)
def test_impossible_layout_is_refused(config):
    with pytest.raises(ValueError, match="nafnet needs"):
        build_backbone(config)


@pytest.mark.parametrize("name", BACKBONES)
def test_parameters_are_all_the_state_there_is(name):
    # A checkpoint holds the parameters; a running statistic would be lost on resuming.
    assert not list(build_backbone(BackboneConfig(name=name)).buffers())
