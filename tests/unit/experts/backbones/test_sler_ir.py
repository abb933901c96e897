"""SLER-IR: sizes, routes on the sphere, the two stages, and the prior of the whole image."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from expertree.experts.backbones import backbone_config, build_backbone
from expertree.experts.backbones.glgf import Fusion, Injection, cut_map
from expertree.experts.backbones.restormer import RestormerConfig
from expertree.experts.backbones.sler_ir import SLERIRConfig, objective
from expertree.experts.backbones.spherical import (
    MARGIN,
    Router,
    apart,
    balanced,
    contrast,
    simplex,
)
from expertree.experts.batches import Batch
from expertree.experts.conditions import WINDOW
from expertree.experts.losses import l1

EIGHT_STAGES, REST = 22_329_220, 3_797_424


@pytest.fixture
def config(tiny_networks):
    return dataclasses.replace(tiny_networks["sler_ir"], experts=3)


def network_of(config, seed=0):
    """A network that is not the identity, and whose prior counts."""
    torch.manual_seed(seed)
    network = build_backbone(config)
    for name, value in network.named_parameters():
        if name.endswith("project_out.weight"):
            torch.nn.init.normal_(value, std=0.1)
    return network


def condition_of(config, num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "embedding": 3 * torch.randn(num, config.embed_dim, generator=generator),
        "cells": torch.randn(num, 16, config.embed_dim, generator=generator),
        "overview": torch.rand(num, 3, 64, 64, generator=generator),
    }


def rows(condition, part):
    return {name: value[part] for name, value in condition.items()}


def size(network, *beginnings):
    named = network.named_parameters()
    return sum(value.numel() for name, value in named if name.startswith(beginnings))


def test_a_full_size_network_is_a_restormer_with_three_of_each_stage():
    with torch.device("meta"):
        network = build_backbone(SLERIRConfig())
        restormer = build_backbone(RestormerConfig())
    assert sum(p.numel() for p in restormer.parameters()) == EIGHT_STAGES + REST
    ours = ("router.", "fusion.", "injections.")
    assert size(network, "stages.") == 3 * EIGHT_STAGES
    assert size(network, "") - size(network, *ours) == 3 * EIGHT_STAGES + REST == 70_785_084
    router = 512 * 128 + 128 + 128 * 8 * 64 + 8 * 64
    assert size(network, "router.") == router
    assert network.router.centres.shape == (3, 64)


def test_the_small_preset_has_a_size_of_its_own():
    with torch.device("meta"):
        network = build_backbone(backbone_config("sler_ir_small"))
    assert 5e5 < size(network, "") < 1.5e6


def chosen(network, image, condition):
    """The expert of each stage for each image."""
    with torch.no_grad():
        return network.restore_and_choose(image, condition)[1].argmax(dim=-1)


def test_a_batch_of_two_equals_two_of_one_and_rows_take_different_paths(config):
    network = network_of(config).eval()
    image, condition = torch.rand(6, 3, 16, 24), condition_of(config, 6)
    with torch.inference_mode():
        together = network(image, condition)
        paths = [tuple(row) for row in chosen(network, image, condition).tolist()]
        for row in range(6):
            part = slice(row, row + 1)
            alone = network(image[part], rows(condition, part))
            torch.testing.assert_close(alone, together[part], rtol=0, atol=1e-5)
            own = chosen(network, image[part], rows(condition, part))
            assert own.tolist() == [list(paths[row])]
        assert torch.equal(network(image, condition), together)
        restored, taken = network.restore_and_choose(image, condition)
        assert torch.equal(restored, together)
        assert taken.sum(dim=-1).eq(1).all()
    assert len(set(paths)) > 1
    assert all(len(path) == 8 for path in paths)


def test_a_path_is_the_restormer_of_its_stages(config):
    """Without a prior: the chosen copies' weights under Restormer's names give the same image."""
    config = dataclasses.replace(config, prior_width=0)
    network = network_of(config).eval()
    image, condition = torch.rand(1, 3, 16, 16), condition_of(config, 1)
    (path,) = chosen(network, image, condition).tolist()
    names = {
        **{
            f"stages.{n}.experts.{e}.": where
            for n, (e, where) in enumerate(
                zip(
                    path,
                    (
                        "encoder_level1.",
                        "encoder_level2.",
                        "encoder_level3.",
                        "latent.",
                        "decoder_level3.",
                        "decoder_level2.",
                        "decoder_level1.",
                        "refinement.",
                    ),
                    strict=True,
                )
            )
        },
        **{f"downs.{n}.": f"down{n + 1}_{n + 2}." for n in range(3)},
        **{f"ups.{n}.": f"up{4 - n}_{3 - n}." for n in range(3)},
        "reduces.0.": "reduce_chan_level3.",
        "reduces.1.": "reduce_chan_level2.",
        "patch_embed.": "patch_embed.",
        "output.": "output.",
    }
    weights = {
        theirs + name.removeprefix(ours): value
        for ours, theirs in names.items()
        for name, value in network.state_dict().items()
        if name.startswith(ours)
    }
    restormer = build_backbone(config.restormer).eval()
    restormer.load_state_dict(weights)
    with torch.inference_mode():
        torch.testing.assert_close(network(image, condition), restormer(image))


def test_soft_routes_mix_all_experts_and_teach_the_chosen_one_alone(config):
    network = network_of(config)
    image, condition = torch.rand(1, 3, 16, 16), condition_of(config, 1)
    restored, vectors = network.learn(image, condition, 1.0)
    (path,) = chosen(network, image, condition).tolist()
    (restored - 0.5).square().mean().backward()
    for number, stage in enumerate(network.stages):
        for expert, blocks in enumerate(stage.experts):
            grads = [p.grad for p in blocks.parameters()]
            moved = any(grad is not None and bool(grad.abs().max() > 0) for grad in grads)
            assert moved == (expert == path[number]), (number, expert)
    assert all(p.grad.abs().max() > 0 for p in network.router.parameters())
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(1, 8))
    with torch.no_grad():
        hard = network(image, condition)
        nearly, _ = network.learn(image, condition, 1e-4)
    assert not torch.allclose(restored, hard, atol=1e-4)
    torch.testing.assert_close(nearly, hard, rtol=0, atol=1e-4)


def test_a_mixed_stage_is_the_weighted_sum(config):
    stage = network_of(config).stages[0]
    x, shares = torch.rand(3, 4, 8, 8), torch.rand(3, 3).softmax(dim=1)
    expected = sum(shares[:, n, None, None, None] * e(x) for n, e in enumerate(stage.experts))
    torch.testing.assert_close(stage(x, shares, soft=True), expected)


@pytest.mark.parametrize(("count", "dim"), [(2, 4), (3, 3), (4, 64)])
def test_centres_begin_as_far_apart_as_they_can_be(count, dim):
    centres = simplex(count, dim)
    cosines = centres @ centres.mT
    torch.testing.assert_close(cosines.diagonal(), torch.ones(count))
    off = cosines[~torch.eye(count, dtype=torch.bool)]
    torch.testing.assert_close(off, torch.full_like(off, -1 / (count - 1)))
    torch.testing.assert_close(apart(centres), centres)


def test_centres_near_each_other_are_pushed_apart():
    torch.manual_seed(0)
    centres = F.normalize(torch.ones(3, 8) + 0.2 * torch.randn(3, 8), dim=-1)
    before = (centres @ centres.mT).sum()
    for _ in range(200):
        centres = apart(centres)
    cosines = centres @ centres.mT
    assert cosines.sum() < before
    assert cosines.fill_diagonal_(-1).max() < -0.4


def test_points_are_dealt_to_centres_in_equal_parts():
    torch.manual_seed(0)
    points = F.normalize(torch.randn(60, 8) + torch.tensor([2.0, *[0.0] * 7]), dim=-1)
    shares = balanced(points @ simplex(3, 8).mT)
    torch.testing.assert_close(shares.sum(dim=0), torch.full((3,), 20.0))
    nearest = (points @ simplex(3, 8).mT).argmax(dim=1).bincount(minlength=3)
    assert nearest.max() > 30


def test_centres_follow_the_vectors_and_stay_apart():
    torch.manual_seed(0)
    router = Router(8, 8, 4, 2, 3)
    begin = router.centres.clone()
    groups = torch.linalg.qr(torch.randn(4, 4)).Q[:3]
    points = F.normalize(groups.repeat(20, 1) + 0.05 * torch.randn(60, 4), dim=-1)
    for _ in range(500):
        router.follow(points[:, None].expand(-1, 2, -1))
    assert not torch.equal(router.centres, begin)
    torch.testing.assert_close(router.centres.norm(dim=-1), torch.ones(3))
    assert len(set((groups @ router.centres.mT).argmax(dim=1).tolist())) == 3


def test_contrast_has_its_stated_bounds_and_pulls_like_samples_together():
    kinds = [("noise",), ("noise",), ("rain",), ("rain",)]
    axes = torch.eye(4)
    sorted_by_kind = torch.stack([axes[0], axes[0], -axes[0], -axes[0]])[:, None]
    assert contrast(sorted_by_kind, kinds) == 0
    crossed = torch.stack([axes[0], -axes[0], axes[0], -axes[0]])[:, None]
    assert contrast(crossed, kinds) == pytest.approx(0 - -1 + MARGIN)
    same = axes[0].expand(4, 1, 4)
    assert contrast(same, kinds) == pytest.approx(MARGIN)
    for alone in ([("noise",)] * 4, [("a",), ("b",), ("c",), ("d",)]):
        assert contrast(crossed, alone) == 0
    free = torch.randn(4, 1, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for _ in range(100):
        loss = contrast(F.normalize(free, dim=-1), kinds)
        (gradient,) = torch.autograd.grad(loss, free)
        free = (free - gradient).detach().requires_grad_()
    assert contrast(F.normalize(free, dim=-1), kinds) == 0


def batch_of(config, phase=0, progress=0.0):
    torch.manual_seed(1)
    return Batch(
        lq=torch.rand(4, 3, 16, 16),
        gt=torch.rand(4, 3, 16, 16),
        tasks=[("noise",), ("rain",), ("noise",), ("rain",)],
        condition=condition_of(config, 4),
        phase=phase,
        progress=progress,
    )


def test_the_first_stage_adds_contrast_which_moves_the_router_alone(config):
    network = network_of(config)
    batch = batch_of(config)
    restored, vectors = network.learn(batch.lq, batch.condition, 1.0)
    auxiliary = contrast(vectors, batch.tasks)
    assert auxiliary > 0
    assert objective(network, batch, l1).detach() == pytest.approx(
        float((l1(restored, batch.gt) + auxiliary).detach()), rel=1e-4
    )
    gradients = torch.autograd.grad(auxiliary, list(network.parameters()), allow_unused=True)
    moved = {
        name.partition(".")[0]
        for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True)
        if gradient is not None and gradient.abs().max() > 0
    }
    assert moved == {"router"}


def test_the_second_stage_is_the_images_loss_by_hard_routes(config):
    network = network_of(config)
    begin = network.router.centres.clone()
    batch = batch_of(config, phase=1)
    loss = objective(network, batch, l1)
    assert loss == l1(network(batch.lq, batch.condition), batch.gt)
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in network.router.parameters())
    assert torch.equal(network.router.centres, begin)


@pytest.mark.parametrize("fixed", [False, True])
def test_centres_move_in_the_first_stage_unless_they_are_fixed(config, fixed):
    config = dataclasses.replace(config, fixed_centres=fixed)
    network = network_of(config)
    begin = network.router.centres.clone()
    objective(network, batch_of(config), l1)
    assert torch.equal(network.router.centres, begin) == fixed


def test_the_prior_starts_without_effect_and_then_reaches_every_pixel(config):
    torch.manual_seed(0)
    network = build_backbone(config).eval()
    image, condition = torch.rand(1, 3, 16, 16), condition_of(config, 1)
    other = condition | {"cells": condition["cells"] + 1, "overview": 1 - condition["overview"]}
    with torch.inference_mode():
        assert torch.equal(network(image, condition), network(image, other))
        network = network_of(config).eval()
        changed = network(image, condition) != network(image, other)
    assert changed.float().mean() > 0.99


def test_a_tile_reads_its_own_part_of_the_prior():
    torch.manual_seed(0)
    values = torch.rand(1, 2, 8, 8)
    whole = cut_map(values, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (32, 48))
    tile = cut_map(values, torch.tensor([[0.25, 0.5, 0.75, 1.0]]), (16, 24))
    torch.testing.assert_close(tile, whole[..., 8:24, 24:48])
    expected = F.interpolate(values, (32, 48), mode="bilinear")
    torch.testing.assert_close(whole, expected)


def test_padding_does_not_shift_the_prior(config):
    """An image that must be padded meets the prior where its pixels are, as a larger one's tile."""
    network = network_of(config).eval()
    image, condition = torch.rand(1, 3, 24, 32), condition_of(config, 1)
    window = torch.tensor([[0.0, 0.0, 20 / 24, 29 / 32]])
    with torch.inference_mode():
        part = network(image[..., :20, :29], condition | {WINDOW: window})
        padded = F.pad(image[..., :20, :29], (0, 3, 0, 4), mode="reflect")
        whole = network(padded, condition)[..., :20, :29]
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-6)


def test_every_part_of_the_fusion_learns():
    torch.manual_seed(0)
    fusion, injection = Fusion(8, 6), Injection(4, 2, 8)
    torch.nn.init.normal_(injection.project_out.weight)
    torch.nn.init.normal_(fusion.content.film[2].weight)
    prior = fusion(torch.rand(2, 3, 64, 64), torch.randn(2, 16, 6))
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4)
    injection(torch.rand(2, 4, 8, 8), prior, whole).square().sum().backward()
    for module in (fusion, injection):
        for name, value in module.named_parameters():
            if not name.startswith("key_value.bias"):
                assert value.grad.abs().max() > 0, name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_full_size_step_runs_on_a_cpu():
    torch.manual_seed(0)
    config = SLERIRConfig()
    network = build_backbone(config)
    batch = dataclasses.replace(
        batch_of(config),
        lq=torch.rand(2, 3, 128, 128),
        gt=torch.rand(2, 3, 128, 128),
        tasks=[("noise",), ("rain",)],
        condition=condition_of(config, 2),
    )
    for phase in (0, 1):
        loss = objective(network, dataclasses.replace(batch, phase=phase), l1)
        loss.backward()
        assert math.isfinite(float(loss.detach()))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"experts": 1}, "from 2 experts up to as many as router_dim; got 1 and 64"),
        ({"experts": 65}, "got 65 and 64"),
        ({"router_hidden": 0}, "positive sizes of its router"),
        ({"prior_width": 6}, "prior_width that 4 divides, or 0; got 6"),
        ({"decoder": (1, 1)}, "3 decoder scales"),
    ],
)
def test_what_cannot_be_built_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        SLERIRConfig(**sizes)
