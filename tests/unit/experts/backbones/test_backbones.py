"""The registry: sizes that the literature states, any image size, one config for every kind."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from expertree.config import load, to_dict
from expertree.errors import ConfigError
from expertree.experts.backbones import (
    BACKBONES,
    BackboneConfig,
    backbone_record,
    build_backbone,
    describe_backbone,
    resolve_backbone,
)


def named(name, **sizes):
    return BackboneConfig(name=name, **sizes)


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [
        (named("nafnet"), 288_691),
        (named("nafnet_gopro"), 17_111_907),
        (named("nafnet_gopro", width=64), 67_888_835),
        (named("nafnet_sidd", width=16), 7_371_923),
        (named("nafnet_sidd"), 29_159_715),
        (named("nafnet_sidd", width=64), 115_982_915),
        (named("restormer"), 26_126_644),
        (named("restormer", norm_bias=False), 26_111_668),
        (named("lite_restormer"), 14_810_872),
        (named("retinexformer"), 1_605_701),
        # 35,592,263 in the released code, of which it never uses 215,296.
        (named("promptir"), 35_592_263 - 215_296),
    ],
)
def test_networks_have_the_sizes_of_the_literature(config, num_parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in build_backbone(config).parameters()) == num_parameters


@pytest.mark.parametrize(
    ("name", "num_parameters", "multiply_adds_512", "multiple_px"),
    [
        ("nafnet", 288_691, 4_124_076_544, 8),
        ("litenaf", 17_111_907, 63_817_492_480, 16),
        ("nafnet_sidd", 29_159_715, 64_168_382_464, 16),
        ("restormer", 26_126_644, 619_528_126_464, 8),
        ("retinexformer", 1_605_701, 66_626_519_040, 4),
        ("promptir", 35_376_967, 690_824_596_768, 8),
    ],
)
def test_descriptor_has_size_and_cost(name, num_parameters, multiply_adds_512, multiple_px):
    descriptor = describe_backbone(named(name))
    assert descriptor.num_parameters == num_parameters
    assert descriptor.multiply_adds_512 == multiply_adds_512
    assert descriptor.multiple_px == multiple_px
    assert descriptor.min_size_px == multiple_px // 2 + 1
    assert descriptor.precisions == ("float32", "bfloat16")


def test_restormers_cost_is_the_papers_and_that_of_its_attention():
    # Two products of [channels of a head, pixels] a block and head; the paper's 140.99 G at 256 px
    # leaves them out.
    blocks = {
        (48, 1, 512): 4,
        (96, 2, 256): 12,
        (192, 4, 128): 12,
        (384, 8, 64): 8,
        (96, 1, 512): 8,
    }
    attention = sum(2 * num * c * c // heads * px**2 for (c, heads, px), num in blocks.items())
    total = describe_backbone(named("restormer")).multiply_adds_512
    assert (total - attention) / 4 == pytest.approx(140.99e9, rel=1e-4)


def test_descriptor_counts_what_is_built(tiny):
    num_parameters = sum(p.numel() for p in build_backbone(tiny).parameters())
    assert describe_backbone(tiny).num_parameters == num_parameters


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (17, 30)])
def test_any_image_size_keeps_its_size(tiny, size):
    network = build_backbone(tiny)
    with torch.inference_mode():
        assert network(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_padding_is_reflection(tiny):
    network = build_backbone(tiny).eval()
    image = torch.rand(1, 3, 13, 14)
    multiple = network.multiple_px
    by_hand = F.pad(image, (0, -14 % multiple, 0, -13 % multiple), mode="reflect")
    with torch.inference_mode():
        expected = network(by_hand)[..., :13, :14]
        torch.testing.assert_close(network(image), expected, rtol=0, atol=0)


def test_training_in_bfloat16_stays_near_float32(tiny):
    torch.manual_seed(0)
    network = build_backbone(tiny)
    image = torch.rand(1, 3, 16, 16)
    expected = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image)
        found.square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    # bfloat16 keeps 8 bits of each intermediate value; outputs are about 1.
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)


def test_unknown_name_lists_what_there_is():
    with pytest.raises(ValueError, match=r"'swinir'.*nafnet"):
        build_backbone(named("swinir"))


@pytest.mark.parametrize(
    "config",
    [
        named("nafnet", encoder=(1, 1), decoder=(1,)),
        named("nafnet", encoder=(), decoder=()),
        named("nafnet", width=0),
        named("nafnet", middle=-1),
        named("restormer", encoder=(1, 1)),
        named("restormer", width=7),
        named("restormer", heads=(1, 2, 5, 8)),
        named("restormer", heads=(1, 2, 4)),
        named("restormer", refinement=-1),
        named("retinexformer", encoder=(1, 1, 1)),
        named("retinexformer", width=6),
        named("retinexformer", stages=0),
    ],
)
def test_impossible_layout_is_refused(config):
    with pytest.raises(ValueError, match=f"{config.name} needs"):
        build_backbone(config)


def test_a_size_that_the_kind_does_not_have_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'nafnet_sidd' has no heads, refinement; it has width"):
        build_backbone(named("nafnet_sidd", heads=(1,), refinement=2))


def test_a_name_alone_is_a_whole_other_network():
    config = load(BackboneConfig, to_dict(BackboneConfig()) | {"name": "restormer"})
    assert resolve_backbone(config).encoder == (4, 6, 6)


def test_a_misspelt_size_is_refused_by_its_path():
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        load(BackboneConfig, {"widht": 8})


def test_equal_networks_have_equal_records_whatever_they_are_called():
    sizes = {"width": 32, "encoder": (1, 1, 1, 28), "middle": 1, "decoder": (1, 1, 1, 1)}
    assert backbone_record(named("litenaf")) == backbone_record(named("nafnet", **sizes))
    assert backbone_record(named("litenaf")) == {"name": "nafnet", **sizes}
    assert backbone_record(named("litenaf")) != backbone_record(named("nafnet"))


@pytest.mark.parametrize("name", BACKBONES)
def test_a_record_is_a_config_of_the_same_network(name):
    record = backbone_record(named(name))
    again = load(BackboneConfig, record)
    assert resolve_backbone(again) == resolve_backbone(named(name)) == again


@pytest.mark.parametrize("name", BACKBONES)
def test_parameters_are_all_the_state_there_is(name):
    # A checkpoint holds the parameters; a running statistic would be lost on resuming.
    with torch.device("meta"):
        assert not list(build_backbone(named(name)).buffers())


def test_both_forms_have_the_same_names(tiny):
    forms = [build_backbone(tiny, fast=fast).state_dict() for fast in (True, False)]
    assert list(forms[0]) == list(forms[1])


def test_changing_one_size_keeps_the_others():
    wide = dataclasses.replace(named("lite_restormer"), norm_bias=False)
    assert resolve_backbone(wide).width == 36
