"""Restormer: the published names and shapes, and each layer against its formula."""

import pytest
import torch
import torch.nn.functional as F

from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.restormer import (
    Attention,
    ChannelNorm,
    FeedForward,
    RestormerConfig,
)

BLOCK = {
    "norm1.body.weight": (48,),
    "norm1.body.bias": (48,),
    "attn.temperature": (1, 1, 1),
    "attn.qkv.weight": (144, 48, 1, 1),
    "attn.qkv_dwconv.weight": (144, 1, 3, 3),
    "attn.project_out.weight": (48, 48, 1, 1),
    "norm2.body.weight": (48,),
    "norm2.body.bias": (48,),
    "ffn.project_in.weight": (254, 48, 1, 1),
    "ffn.dwconv.weight": (254, 1, 3, 3),
    "ffn.project_out.weight": (48, 127, 1, 1),
}
BETWEEN = {
    "patch_embed.proj.weight": (48, 3, 3, 3),
    "down1_2.body.0.weight": (24, 48, 3, 3),
    "down2_3.body.0.weight": (48, 96, 3, 3),
    "down3_4.body.0.weight": (96, 192, 3, 3),
    "up4_3.body.0.weight": (768, 384, 3, 3),
    "reduce_chan_level3.weight": (192, 384, 1, 1),
    "up3_2.body.0.weight": (384, 192, 3, 3),
    "reduce_chan_level2.weight": (96, 192, 1, 1),
    "up2_1.body.0.weight": (192, 96, 3, 3),
    "output.weight": (3, 96, 3, 3),
}
LEVELS = {"encoder_level1": 4, "encoder_level2": 6, "encoder_level3": 6, "latent": 8}
LEVELS |= {"decoder_level3": 6, "decoder_level2": 6, "decoder_level1": 4, "refinement": 4}


def test_state_dict_has_the_published_names_and_shapes():
    with torch.device("meta"):
        network = build_backbone(RestormerConfig())
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    rows = [f"{level}.{n}" for level, num_blocks in LEVELS.items() for n in range(num_blocks)]
    blocks = {f"{row}.{name}" for row in rows for name in BLOCK}
    assert set(found) == blocks | set(BETWEEN)
    assert {name: found[name] for name in BETWEEN} == BETWEEN
    assert {name: found[f"encoder_level1.3.{name}"] for name in BLOCK} == BLOCK
    assert found["latent.7.attn.temperature"] == (8, 1, 1)
    assert found["decoder_level1.0.attn.qkv.weight"] == (288, 96, 1, 1)
    assert found["decoder_level1.0.attn.temperature"] == (1, 1, 1)


def test_without_bias_the_norms_have_a_weight_alone():
    sizes = {"encoder": (1, 1, 1), "middle": 1, "decoder": (1, 1, 1), "refinement": 1}
    with torch.device("meta"):
        network = build_backbone(RestormerConfig(norm_bias=False, **sizes))
    assert not [name for name in network.state_dict() if name.endswith("bias")]
    assert "latent.0.norm2.body.weight" in network.state_dict()


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_is_of_each_pixel_over_its_channels(bias):
    norm = ChannelNorm(6, bias=bias)
    for parameter in norm.parameters():
        parameter.data = torch.randn(6)
    x = torch.randn(2, 6, 3, 4)
    found = norm(x)
    pixel = x[1, :, 2, 3]
    spread = (pixel - pixel.mean()).square().mean().add(1e-5).sqrt()
    expected = norm.body.weight * ((pixel - pixel.mean()) if bias else pixel) / spread
    if bias:
        expected = expected + norm.body.bias
    torch.testing.assert_close(found[1, :, 2, 3], expected, rtol=1e-5, atol=1e-6)


def test_attention_is_between_the_channels_of_a_head():
    torch.manual_seed(0)
    attention = Attention(4, 2)
    attention.temperature.data = torch.tensor([0.5, 2.0]).view(2, 1, 1)
    x = torch.randn(1, 4, 5, 6)
    query, key, value = attention.qkv_dwconv(attention.qkv(x))[0].flatten(1).split(4)
    mixed = []
    for head, temperature in enumerate((0.5, 2.0)):
        channels = range(2 * head, 2 * head + 2)
        scores = torch.stack(
            [
                torch.stack([F.cosine_similarity(query[i], key[j], dim=0) for j in channels])
                for i in channels
            ]
        )
        mixed.append((scores * temperature).softmax(dim=1) @ value[2 * head : 2 * head + 2])
    expected = attention.project_out(torch.cat(mixed).view(1, 4, 5, 6))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_feed_forward_gates_the_second_half_by_the_first():
    torch.manual_seed(0)
    layer = FeedForward(4, 2.66)
    assert layer.project_out.weight.shape == (4, 10, 1, 1)
    x = torch.randn(1, 4, 5, 6)
    hidden = layer.dwconv(layer.project_in(x))
    expected = layer.project_out(F.gelu(hidden[:, :10]) * hidden[:, 10:])
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
