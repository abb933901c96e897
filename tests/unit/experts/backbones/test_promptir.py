"""PromptIR: the published names and shapes, and what its prompts are made of."""

import pytest
import torch
import torch.nn.functional as F

from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.promptir import Prompt, PromptIRConfig
from expertree.experts.backbones.restormer import RestormerConfig

PROMPTS = {
    "prompt3.prompt_param": (1, 5, 320, 16, 16),
    "prompt3.linear_layer.weight": (5, 384),
    "prompt3.conv3x3.weight": (320, 320, 3, 3),
    "prompt2.prompt_param": (1, 5, 128, 32, 32),
    "prompt2.linear_layer.weight": (5, 192),
    "prompt1.prompt_param": (1, 5, 64, 64, 64),
    "prompt1.linear_layer.weight": (5, 96),
    "noise_level3.attn.temperature": (4, 1, 1),
    "noise_level3.attn.qkv.weight": (2112, 704, 1, 1),
    "noise_level2.attn.qkv.weight": (960, 320, 1, 1),
    "noise_level1.attn.qkv.weight": (480, 160, 1, 1),
    "reduce_noise_level3.weight": (192, 704, 1, 1),
    "reduce_noise_level2.weight": (192, 320, 1, 1),
    "reduce_noise_level1.weight": (96, 160, 1, 1),
    "up4_3.body.0.weight": (384, 192, 3, 3),
    "reduce_chan_level3.weight": (192, 288, 1, 1),
    "up3_2.body.0.weight": (384, 192, 3, 3),
    "reduce_chan_level2.weight": (96, 192, 1, 1),
    "up2_1.body.0.weight": (192, 96, 3, 3),
}


def test_state_dict_has_the_published_names_and_shapes():
    with torch.device("meta"):
        network = build_backbone(PromptIRConfig())
        restormer = build_backbone(RestormerConfig())
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert {name: found.get(name) for name in PROMPTS} == PROMPTS
    assert set(restormer.state_dict()) <= set(found)


def test_parts_have_the_sizes_of_the_paper():
    with torch.device("meta"):
        network = build_backbone(PromptIRConfig())
    sizes = {"prompt": 0, "noise_level": 0, "reduce_noise_level": 0}
    for name, value in network.named_parameters():
        for part in sizes:
            sizes[part] += value.numel() if name.startswith(part) else 0
    assert sizes == {"prompt": 3_484_975, "noise_level": 7_562_468, "reduce_noise_level": 211_968}


def test_a_prompt_is_the_mixture_that_the_mean_feature_asks_for():
    torch.manual_seed(0)
    prompt = Prompt(3, 2, 4, 5)
    features = torch.rand(2, 5, 9, 7)
    rows = []
    for image in features:
        shares = F.softmax(prompt.linear_layer(image.mean(dim=(1, 2))), dim=0)
        mixed = sum(share * one for share, one in zip(shares, prompt.prompt_param[0], strict=True))
        rows.append(F.interpolate(mixed[None], (9, 7), mode="bilinear")[0])
    expected = prompt.conv3x3(torch.stack(rows))
    torch.testing.assert_close(prompt(features), expected)


def test_prompts_start_between_nothing_and_white():
    pictures = Prompt(3, 2, 16, 5).prompt_param
    assert 0 <= pictures.min() < 0.05
    assert 0.95 < pictures.max() < 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"prompts": 0}, "at least one prompt; got 0"),
        ({"prompt_widths": (8, 4)}, r"3 positive prompt_widths.*got \[8, 4\]"),
        ({"prompt_px": (8, 4, 0)}, r"3 positive prompt_px.*got \[8, 4, 0\]"),
        ({"prompt_widths": (320, 127, 64)}, r"4 heads must divide.*do not divide \[319\]"),
        ({"decoder": (1, 1)}, "3 decoder scales"),
    ],
)
def test_what_cannot_be_built_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        PromptIRConfig(**sizes)
