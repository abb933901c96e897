"""AdaIR: the published names and shapes, and what its frequencies are."""

import math

import pytest
import torch

from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.adair import AdaIRConfig, FrequencyBlock, box_split, soft_split
from expertree.experts.backbones.restormer import RestormerConfig

BLOCK = {
    "conv1.weight": (384, 3, 3, 3),
    "para1": (384, 1, 1),
    "para2": (384, 1, 1),
    "channel_cross_l.temperature": (4, 1, 1),
    "channel_cross_h.q.weight": (384, 384, 1, 1),
    "channel_cross_h.q_dwconv.weight": (384, 1, 3, 3),
    "channel_cross_agg.kv.weight": (768, 384, 1, 1),
    "channel_cross_agg.kv_dwconv.weight": (768, 1, 3, 3),
    "channel_cross_agg.project_out.weight": (384, 384, 1, 1),
    "frequency_refine.SpatialGate.spatial.weight": (1, 2, 7, 7),
    "frequency_refine.ChannelGate.mlp.0.weight": (24, 384, 1, 1),
    "frequency_refine.ChannelGate.mlp.2.weight": (384, 24, 1, 1),
    "frequency_refine.proj.weight": (384, 384, 1, 1),
    "frequency_refine.proj.bias": (384,),
    "rate_conv.0.weight": (48, 384, 1, 1),
    "rate_conv.2.weight": (2, 48, 1, 1),
}


def test_state_dict_has_the_published_names_and_shapes():
    with torch.device("meta"):
        network = build_backbone(AdaIRConfig())
        restormer = build_backbone(RestormerConfig())
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert {name: found.get(f"fre1.{name}") for name in BLOCK} == BLOCK
    assert set(restormer.state_dict()) <= set(found)


def test_parts_have_the_sizes_of_the_paper():
    with torch.device("meta"):
        network = build_backbone(AdaIRConfig())
    sizes = [
        sum(p.numel() for p in network.get_submodule(f"fre{n}").parameters()) for n in (1, 2, 3)
    ]
    # As released, without conv (27 a channel) and score_gen (198), which it never uses.
    released = (2_007_188, 515_300, 135_692)
    dead = [27 * width + 198 for width in (384, 192, 96)]
    assert sizes == [size - less for size, less in zip(released, dead, strict=True)]


@pytest.mark.parametrize("mask", ["soft", "box"])
def test_a_frequency_block_starts_as_the_identity_and_learns(mask):
    torch.manual_seed(0)
    block, x = FrequencyBlock(64, 2, mask), torch.randn(2, 64, 12, 10)
    image = torch.rand(2, 3, 24, 20)
    assert torch.equal(block(x, image), x)
    block.para1.data.fill_(0.5)
    block(x, image).square().sum().backward()
    still = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    # The released box is cut to whole frequencies, through which no gradient passes.
    assert ("rate_conv.0.weight" in still) == (mask == "box")
    assert mask == "box" or not still


def wave(frequency, side=32):
    """Columns of a cosine with so many periods."""
    return torch.cos(2 * math.pi * frequency * torch.arange(side) / side).expand(1, 1, side, side)


def test_the_soft_box_halves_a_wave_at_its_side_and_splits_without_loss():
    shares = torch.tensor([[0.5, 0.5]])
    # Along columns the constant wave is well inside, sigmoid(8); along rows 8 of 16 is the side.
    inside = torch.sigmoid(torch.tensor(8.0))
    for frequency, factor in ((8, 0.5), (0, inside), (16, 1 - inside)):
        low, high = soft_split(wave(frequency), shares)
        torch.testing.assert_close(low, wave(frequency) * inside * factor, rtol=0, atol=1e-5)
        torch.testing.assert_close(low + high, wave(frequency), rtol=0, atol=1e-6)


def test_the_soft_box_is_the_same_part_of_a_larger_map():
    shares = torch.tensor([[0.3, 0.3]])
    kept = [soft_split(wave(side // 8, side), shares)[0].std() for side in (32, 64, 128)]
    torch.testing.assert_close(torch.stack(kept), kept[0].expand(3), rtol=2e-2, atol=0)


def test_the_released_box_holds_nothing_until_maps_are_large():
    shares = torch.tensor([[0.5, 0.5]])
    x = torch.rand(1, 1, 255, 200)
    low, high = box_split(x, shares)
    assert not low.any()
    torch.testing.assert_close(high, x, rtol=0, atol=1e-5)
    # From 256 px on it is frequencies -1 and 0 on either axis: the mean, and one wave of each pair.
    low, _ = box_split(3.0 + torch.zeros(1, 1, 256, 256), shares)
    torch.testing.assert_close(low, torch.full_like(low, 3.0), rtol=0, atol=1e-4)
    low, high = box_split(wave(1, 256), shares)
    torch.testing.assert_close(low, torch.full_like(low, 0.5), rtol=0, atol=1e-4)
    torch.testing.assert_close(high, torch.full_like(high, 0.5), rtol=0, atol=1e-4)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="adair needs 8 heads to divide twice its width; got wid"):
        AdaIRConfig(width=2, heads=(1, 2, 8, 8))
    with pytest.raises(ValueError, match="adair needs 3 encoder"):
        AdaIRConfig(encoder=(1,))
