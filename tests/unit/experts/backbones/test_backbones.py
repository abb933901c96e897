"""The registry: sizes that the literature states, any image size, a config for every network."""

import dataclasses
import functools
import hashlib
import json

import pytest
import torch
import torch.nn.functional as F

from expertree.config import load, to_dict
from expertree.errors import ConfigError
from expertree.experts.backbones import (
    BACKBONES,
    Backbone,
    build_backbone,
    describe_backbone,
)
from expertree.experts.backbones import backbone_config as named
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.backbones.restormer import RestormerConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    backbone: Backbone = NAFNetConfig()


def read(**backbone):
    return load(Section, {"backbone": backbone}).backbone


@functools.cache
def on_meta(config):
    """A network without memory, built once for all that look at its layers."""
    with torch.device("meta"):
        return build_backbone(config)


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
        # 28,784,824 in the released code, of which it never uses 18,738.
        (named("adair"), 28_784_824 - 18_738),
        # The released code trains 3,456 numbers of a Laplacian that the paper has fixed.
        (named("moce_ir"), 25_353_796 - 3_456),
        (named("moce_ir", width=32), 11_477_752 - 2_304),
        # 8,930,313 in the released code with the slow copy of the encoder, which has no gradients.
        (named("airnet"), 8_930_313 - 1_319_936),
        (named("adair_small"), 275_789),
        (named("moce_ir_small"), 377_376),
        (named("airnet_small"), 71_133),
    ],
)
def test_networks_have_the_sizes_of_the_literature(config, num_parameters):
    assert sum(p.numel() for p in on_meta(config).parameters()) == num_parameters


@pytest.mark.parametrize(
    ("name", "num_parameters", "multiply_adds_512", "multiple_px"),
    [
        ("nafnet", 288_691, 4_124_076_544, 8),
        ("litenaf", 17_111_907, 63_817_492_480, 16),
        ("nafnet_sidd", 29_159_715, 64_168_382_464, 16),
        ("restormer", 26_126_644, 619_528_126_464, 8),
        ("retinexformer", 1_605_701, 66_626_519_040, 4),
        ("promptir", 35_376_967, 690_824_596_768, 8),
        ("adair", 28_766_086, 646_998_834_216, 8),
        ("moce_ir", 25_350_340, 415_672_389_504, 8),
        # Without the encoder's later stages, 30.06 G that the released code spends on nothing.
        ("airnet", 7_610_377, 1_657_857_376_256, 1),
        ("adair_small", 275_789, 5_886_486_524, 8),
        ("moce_ir_small", 377_376, 7_395_109_080, 8),
        ("airnet_small", 71_133, 6_002_049_024, 1),
        ("instructir", 15_947_313, 64_657_545_088, 16),
        ("instructir_small", 415_041, 6_804_293_184, 8),
        ("lora_ir", 85_938_322, 252_196_257_408, 16),
        ("lora_ir_small", 896_426, 6_287_678_688, 8),
        ("sler_ir", 73_182_795, 638_854_825_472, 8),
        ("sler_ir_small", 601_700, 5_581_435_648, 8),
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


def test_unknown_name_names_the_nearest_or_all():
    with pytest.raises(ValueError, match=r"no backbone 'restorme'; did you mean 'restormer'"):
        named("restorme")
    with pytest.raises(ConfigError, match=r"'backbone'.*no backbone 'swin'; known here: adair, "):
        read(name="swin")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("nafnet", {"encoder": (1, 1), "decoder": (1,)}),
        ("nafnet", {"encoder": (), "decoder": ()}),
        ("nafnet", {"width": 0}),
        ("nafnet", {"middle": -1}),
        ("restormer", {"encoder": (1, 1)}),
        ("restormer", {"width": 7}),
        ("restormer", {"heads": (1, 2, 5, 8)}),
        ("restormer", {"heads": (1, 2, 4)}),
        ("restormer", {"refinement": -1}),
        ("retinexformer", {"encoder": (1, 1, 1)}),
        ("retinexformer", {"width": 6}),
        ("retinexformer", {"stages": 0}),
    ],
)
def test_impossible_sizes_are_refused(name, sizes):
    with pytest.raises(ValueError, match=f"{name} needs"):
        named(name, **sizes)
    with pytest.raises(ConfigError, match=f"'backbone'.*{name} needs"):
        read(name=name, **sizes)


def test_a_size_that_a_network_does_not_have_is_refused_by_the_nearest_that_it_has():
    message = r"'nafnet_sidd' has no 'prompt_widths'; did you mean 'width'"
    with pytest.raises(ValueError, match=message):
        named("nafnet_sidd", prompt_widths=(1, 2, 3))
    with pytest.raises(ConfigError, match=f"'backbone'.*{message}"):
        read(name="nafnet_sidd", prompt_widths=[1, 2, 3])
    with pytest.raises(ValueError, match=r"'nafnet' has no 'heads'; known here: width, encoder, m"):
        named("nafnet", heads=(1,))
    with pytest.raises(ConfigError, match=r"'backbone\.width' = 'wide'"):
        read(name="restormer", width="wide")
    with pytest.raises(ConfigError, match="given by its name"):
        load(Section, {"backbone": "restormer"})


def test_a_name_cannot_be_given_to_sizes_of_another_network():
    with pytest.raises(TypeError, match="name"):
        RestormerConfig(name="nafnet")


def test_a_name_alone_is_a_whole_network_and_no_name_is_the_first():
    assert read(name="restormer") == RestormerConfig()
    assert read(name="nafnet_gopro", width=64) == named("nafnet_gopro", width=64)
    assert read() == read(width=None) == NAFNetConfig()
    # Records of before networks had configs of their own hold every size of every network.
    assert read(name="restormer", width=24, stages=None, heads=None) == RestormerConfig(width=24)


# SHA-256 of what was stored and hashed when one config had the fields of all networks.
RECORDS = {
    "nafnet": "8b1e228b8058d71b",
    "nafnet_gopro": "6e831056b4e016b2",
    "nafnet_sidd": "bc08ca43446171eb",
    "litenaf": "6e831056b4e016b2",
    "restormer": "4a1feee8faa513b2",
    "lite_restormer": "be52d1c6795ad684",
    "retinexformer": "4e9cdc22516a83bd",
    "promptir": "83f7d5368b5cec77",
    "instructir": "d69c1fe6655b487f",
    "instructir_small": "f9bc51ab819892d8",
    "lora_ir": "02c440209b60c33a",
    "lora_ir_small": "d09a9e17cdd8a124",
    "sler_ir": "679718cef3b3d754",
    "sler_ir_small": "9398821f03b70c59",
}


def test_stored_networks_keep_their_bytes_and_so_their_hashes():
    for name, sha256 in RECORDS.items():
        record = json.dumps(dataclasses.asdict(named(name)))
        assert hashlib.sha256(record.encode()).hexdigest()[:16] == sha256, record


def test_equal_networks_are_equal_whatever_they_are_called():
    sizes = {"width": 32, "encoder": (1, 1, 1, 28), "middle": 1, "decoder": (1, 1, 1, 1)}
    assert named("litenaf") == named("nafnet", **sizes) == NAFNetConfig(**sizes)
    assert named("litenaf") != named("nafnet")


@pytest.mark.parametrize("name", BACKBONES)
def test_a_record_is_a_config_of_the_same_network(name):
    assert read(**to_dict(named(name))) == named(name)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_network_is_listed_under_the_name_that_is_stored(name):
    assert type(BACKBONES[named(name).name].config) is type(named(name))


@pytest.mark.parametrize("name", BACKBONES)
def test_what_a_network_keeps_beside_parameters_is_constant_or_named_here(name):
    # Checkpoints hold it, and workers average it: what is neither must be known.
    found = {name.split(".")[-1] for name, _ in on_meta(named(name)).named_buffers()}
    kind = named(name).name
    constant = {"weight", "complexity"} if kind == "moce_ir" else set()
    moving = {"running_mean", "running_var", "num_batches_tracked", "slow", "queue", "num_queued"}
    told = {"instructir": {"prototypes"}, "sler_ir": {"centres"}}.get(kind, set())
    assert found == constant | told | (moving if kind == "airnet" else set())


@pytest.mark.parametrize("name", BACKBONES)
def test_no_convolution_of_one_pixel_has_a_stride(name):
    # With few channels in channels_last, oneDNN's gradient of one writes beyond its memory.
    layers = on_meta(named(name)).modules()
    found = [one for one in layers if isinstance(one, torch.nn.Conv2d) and max(one.stride) > 1]
    assert [one for one in found if max(one.kernel_size) == 1] == []


def test_both_forms_have_the_same_names(tiny):
    forms = [build_backbone(tiny, fast=fast).state_dict() for fast in (True, False)]
    assert list(forms[0]) == list(forms[1])
