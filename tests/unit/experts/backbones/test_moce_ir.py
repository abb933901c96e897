"""MoCE-IR: the published names and shapes, its experts, what chooses them and what teaches that."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from expertree.experts.backbones import build_backbone, describe_backbone
from expertree.experts.backbones.moce_experts import (
    Experts,
    convolve_windows,
    importance_loss,
    load_loss,
)
from expertree.experts.backbones.moce_ir import MoCEIRConfig, noise_of, objective
from expertree.experts.batches import Batch
from expertree.experts.losses import l1

LAPLACIAN = 9 * 384
SHAPES = {
    "patch_embed.proj.weight": (48, 3, 3, 3),
    "freq_embed.high_conv.0.conv.weight": (384, 1, 3, 3),
    "freq_embed.mlp.2.weight": (384, 768),
    "enc.0.0.layers.3.mixer.qkv.bias": (144,),
    "enc.1.1.body.0.weight": (48, 96, 3, 3),
    "latent.layers.7.norms.1.body.weight": (384,),
    "latent.layers.0.ffn.project_in.bias": (1536,),
    "dec.0.0.body.0.weight": (768, 384, 3, 3),
    "dec.0.1.weight": (192, 384, 1, 1),
    "dec.1.2.layers.3.proj.1.bias": (96,),
    "dec.2.2.layers.1.shared.qkv.weight": (144, 48, 1, 1),
    "dec.0.2.layers.0.mixer.kv_dwconv.weight": (384, 1, 7, 7),
    "dec.0.2.layers.0.adapter.experts.0.0.proj.0.weight": (24, 192, 1, 1),
    "dec.0.2.layers.0.adapter.experts.3.0.body.kv_dwconv.bias": (384,),
    "dec.0.2.layers.0.adapter.experts.3.0.body.norm.body.bias": (192,),
    "dec.0.2.layers.0.adapter.experts.3.0.body.proj_out.bias": (192,),
    "dec.0.2.layers.0.adapter.proj_out.weight": (192, 192, 1, 1),
    "dec.0.2.layers.0.adapter.routing.gate.2.weight": (4, 192),
    "dec.0.2.layers.0.adapter.routing.freq_gate.weight": (4, 384),
    "dec.0.2.layers.0.adapter.routing.complexity": (4,),
    "refinement.layers.3.ffn.project_out.weight": (48, 96, 1, 1),
    "output.weight": (3, 48, 3, 3),
}


def make(**sizes):
    torch.manual_seed(0)
    return build_backbone(tiny(**sizes))


def tiny(**sizes):
    return MoCEIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 2),
        heads=(1, 2, 2, 4),
        refinement=1,
        windows=(2, 4, 8),
        **sizes,
    )


def batch(num=4):
    torch.manual_seed(1)
    lq, gt = torch.rand(num, 3, 16, 16), torch.rand(num, 3, 16, 16)
    return Batch(lq=lq, gt=gt, tasks=[("noise",)] * num, seeds=list(range(num)))


def test_state_dict_has_the_published_names_and_shapes():
    with torch.device("meta"):
        found = build_backbone(MoCEIRConfig()).state_dict()
    assert {name: tuple(found[name].shape) for name in SHAPES} == SHAPES


def test_parts_have_the_sizes_of_the_paper():
    with torch.device("meta"):
        network = build_backbone(MoCEIRConfig())
    sizes = {
        name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()
    }
    assert sizes == {
        "patch_embed": 1_296,
        "freq_embed": 594_432 - LAPLACIAN,
        "enc": 3_234_088,
        "latent": 12_051_520,
        "dec": 9_363_064,
        "refinement": 108_100,
        "output": 1_296,
    }
    experts = [
        [sum(p.numel() for p in one.parameters()) for one in scale[2].layers[0].adapter.experts]
        for scale in network.dec
    ]
    assert experts == [
        [18_840, 42_288, 103_008, 279_744],
        [5_388, 11_928, 28_464, 75_360],
        [1_686, 3_660, 8_472, 21_552],
    ]


def test_costs_are_told_from_the_cheapest_expert_to_the_dearest():
    told = describe_backbone(MoCEIRConfig())
    assert told.least_multiply_adds_512 / 1e9 == pytest.approx(370, abs=1)
    assert told.multiply_adds_512 / 1e9 == pytest.approx(416, abs=1)


def test_windows_are_convolved_around_their_borders():
    torch.manual_seed(0)
    x, kernel = torch.randn(2, 2, 3, 6, 7)
    found = convolve_windows(x, kernel, 4)
    padded, filters = (F.pad(part, (0, 1, 0, 2)) for part in (x, kernel))
    expected = torch.zeros_like(padded)
    for top in (0, 4):
        for left in (0, 4):
            window = (slice(None), slice(None), slice(top, top + 4), slice(left, left + 4))
            for row in range(4):
                for column in range(4):
                    moved = padded[window].roll((row, column), dims=(2, 3))
                    expected[window] += (
                        filters[window][..., row : row + 1, column : column + 1] * moved
                    )
    torch.testing.assert_close(found, expected[..., :6, :7], rtol=0, atol=1e-5)


def test_each_image_meets_its_own_expert():
    torch.manual_seed(0)
    experts = Experts(8, (2, 4), 6)
    x, shared, frequencies = torch.randn(5, 8, 8, 8), torch.randn(5, 8, 8, 8), 9 * torch.randn(5, 6)
    found, routed = experts(x, shared, frequencies, None, None)
    assert set(routed.expert.tolist()) == {0, 1}
    for n, number in enumerate(routed.expert.tolist()):
        one = slice(n, n + 1)
        alone = experts.proj_out(experts.experts[number][0](x[one], shared[one]))
        torch.testing.assert_close(found[one], alone, rtol=0, atol=1e-5)
    probabilities = experts.routing(x, frequencies, None, 1).share
    torch.testing.assert_close(
        probabilities[routed.expert == 1], routed.share[routed.expert == 1], rtol=0, atol=0
    )


def test_an_image_is_restored_alike_alone_and_beside_others_and_each_time():
    network = make().eval()
    image = torch.rand(3, 3, 20, 17)
    with torch.no_grad():
        together = network(image)
        assert torch.equal(together, network(image))
        restored, taken = network.restore_and_choose(image)
        assert torch.equal(restored, network(image))
        assert taken.sum(dim=-1).eq(1).all()
        for n in range(3):
            alone = network(image[n : n + 1])
            torch.testing.assert_close(alone, together[n : n + 1], rtol=0, atol=1e-5)


def gradient_of_the_router(gate):
    """The largest gradient that the pixels alone give to what chooses."""
    network = make(gate=gate).double()
    one = batch()
    restored = network(one.lq.double())
    (restored - one.gt.double()).square().mean().backward()
    routers = [
        p.grad
        for name, p in network.named_parameters()
        if "routing" in name or "freq_embed" in name
    ]
    return max(float(grad.abs().max()) for grad in routers if grad is not None)


def test_pixels_teach_the_choice_where_the_output_is_gated_and_never_where_the_query_is():
    assert gradient_of_the_router("query") < 1e-15
    assert gradient_of_the_router("output") > 1e-9


def test_importance_is_even_where_probability_is_inverse_to_cost():
    costs = torch.tensor([0.067, 0.151, 0.368, 1.0])
    assert importance_loss(-costs.log().expand(3, 4), costs) == pytest.approx(0, abs=1e-10)
    assert importance_loss(torch.zeros(3, 4), costs) > 0.5
    logits = torch.zeros(3, 4, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        importance_loss(logits, costs).backward()
        optimizer.step()
    found = logits.detach().softmax(dim=1).mean(dim=0)
    expected = (1 / costs) / (1 / costs).sum()  # 0.58, 0.26, 0.11, 0.04
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_load_is_even_where_experts_are_alike():
    even = torch.zeros(8, 4)
    assert load_loss(even, even, 0.25) == pytest.approx(0, abs=1e-10)
    one_sided = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(8, 4)
    assert load_loss(one_sided, one_sided, 0.25) > 3
    # Each image has an expert of its own: no image is even, all of them are.
    assert load_loss(torch.eye(4), torch.eye(4), 0.25) == pytest.approx(0, abs=1e-10)


def test_each_loss_beside_the_pixels_is_there_and_moves_what_it_should():
    def gradients(**weights):
        network = make(**weights)
        loss = objective(network, batch(), l1)
        loss.backward()
        return float(loss.detach()), {
            name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
        }

    plain_loss, plain = gradients(balance=0.0, fourier=0.0)
    for weights in ({"balance": 1.0, "fourier": 0.0}, {"balance": 0.0, "fourier": 1.0}):
        loss, found = gradients(**weights)
        moved = {name for name in found if not torch.allclose(found[name], plain[name], atol=1e-7)}
        assert loss > plain_loss + 1e-3
        if weights["balance"]:
            assert {"freq_embed.mlp.0.weight"} <= moved
            assert any("routing.gate" in name for name in moved)
            # What comes after the last choice knows nothing of it.
            assert not any(name.startswith(("refinement", "output")) for name in moved)
        else:
            assert "output.weight" in moved


def test_choices_vary_with_the_seeds_of_samples_and_with_nothing_else():
    config = tiny()
    noise = noise_of(batch(4), config)
    assert noise.shape == (4, 4, 3)
    torch.rand(1)
    assert torch.equal(noise, noise_of(batch(4), config))
    assert torch.equal(noise[1:3], noise_of(batch(4).rows(slice(1, 3)), config))
    assert not torch.equal(noise[0], noise[1])
    many = dataclasses.replace(batch(0), seeds=list(range(500)))
    assert float(noise_of(many, config).std()) == pytest.approx(1, abs=0.05)


def test_the_laplacian_is_the_papers_and_stays():
    network = make()
    kernel = network.freq_embed.high_conv[0].conv.weight
    assert torch.equal(kernel[3, 0], torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]]))
    assert not kernel.requires_grad
    assert math.prod(kernel.shape) == 9 * 32


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"decoder": (1, 1)}, "3 decoder scales"),
        ({"decoder": (1, 0, 1)}, "a decoder block at each scale"),
        ({"windows": (4,)}, "two or more positive windows"),
        ({"width": 6}, "an even width of at least 8"),
        ({"heads": (1, 2, 5, 8)}, "numbers of heads that divide"),
        ({"balance": -1.0}, "no negative weight"),
    ],
)
def test_what_cannot_be_built_is_refused(sizes, message):
    with pytest.raises(ValueError, match=f"moce_ir needs.*{message}"):
        MoCEIRConfig(**sizes)
