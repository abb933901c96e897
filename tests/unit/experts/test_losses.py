"""What networks are trained on beside their image weighs as it does beside L1."""

import dataclasses
import math

import pytest
import torch

from expertree.experts.backbones import build_backbone, objective_of
from expertree.experts.batches import Batch
from expertree.experts.losses import LOSSES, l1, psnr, steepness

ERROR = 0.05
"""Error of each pixel, of one sign or the other: 26 dB."""

WITH_MORE_LOSSES = ["airnet", "instructir", "moce_ir", "sler_ir"]


def gradients(loss, restored, clean):
    free = restored.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(free, clean), free)
    return found.flatten(1).norm(dim=1)


def test_the_gradient_of_psnr_is_as_many_times_longer_than_that_of_l1_for_each_image():
    clean = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([0.01, 0.06, 0.3]).view(3, 1, 1, 1)
    restored = clean + shift * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    found = steepness(psnr, restored.requires_grad_(), clean)
    assert not found.requires_grad
    restored = restored.detach()
    ratio = gradients(psnr, restored, clean) / gradients(l1, restored, clean)
    torch.testing.assert_close(found, ratio, rtol=1e-3, atol=0)
    assert found[1] == pytest.approx(8.69 / 0.06, rel=0.05)
    assert steepness(psnr, clean, clean).isfinite().all()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"psnr"}))
def test_nothing_is_multiplied_beside_the_other_losses(name):
    assert steepness(LOSSES[name], torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)).tolist() == [
        1,
        1,
    ]


def batch_of(config, phase):
    torch.manual_seed(1)
    lq, second = torch.rand(2, 4, 3, 16, 16)
    return Batch(
        lq=lq,
        gt=lq,
        tasks=[("noise",), ("rain",), ("noise",), ("rain",)],
        seeds=range(4),
        second=second,
        condition={
            "embedding": torch.randn(4, config.told_dim or 1),
            "cells": torch.randn(4, 16, config.told_dim or 1),
            "overview": torch.rand(4, 3, 64, 64),
        },
        phase=phase,
    )


def taken(config, batch, pixel):
    """The loss of a batch, of a network that is always the same, and the image that it is of."""
    torch.manual_seed(0)
    network, seen = build_backbone(config).train(), []
    for _ in range(3 * (config.name == "airnet")):  # its queue then has what is to be told apart
        objective_of(config)(network, dataclasses.replace(batch, phase=0), l1)

    def noting(restored, clean):
        seen.append(restored.detach())
        return pixel(restored, clean)

    chosen = pixel if pixel in LOSSES.values() else noting
    return objective_of(config)(network, batch, chosen).detach(), seen


def none(restored, _):
    return 0.0 * restored.sum()


@pytest.mark.parametrize("name", WITH_MORE_LOSSES)
def test_losses_beside_the_images_weigh_as_they_do_beside_l1(tiny_networks, name):
    config = tiny_networks[name]
    batch = batch_of(config, phase=int(name == "airnet"))
    _, (restored,) = taken(config, batch, none)
    sign = torch.where(torch.rand(restored.shape) < 0.5, -1.0, 1.0)
    batch = dataclasses.replace(batch, gt=restored + ERROR * sign)
    beside = {
        pixel: float(taken(config, batch, pixel)[0] - pixel(restored, batch.gt))
        for pixel in (l1, psnr)
    }
    assert beside[l1] > 1e-3
    factor = 20 / math.log(10) / ERROR
    assert beside[psnr] == pytest.approx(factor * beside[l1], rel=1e-3)


@pytest.mark.parametrize("name", ["instructir", "moce_ir"])
def test_what_is_of_single_images_is_weighed_by_each_of_them(tiny_networks, name):
    """So a batch that goes through the network in pieces has the same loss."""
    config = tiny_networks[name]
    if name == "moce_ir":
        config = dataclasses.replace(config, balance=0.0)
    batch = batch_of(config, phase=0)
    scale = torch.tensor([0.01, 0.1, 0.5, 1.0]).view(4, 1, 1, 1)
    batch = dataclasses.replace(batch, gt=batch.lq + scale * torch.rand(batch.lq.shape))
    whole = float(taken(config, batch, psnr)[0])
    alone = [float(taken(config, batch.rows(slice(n, n + 1)), psnr)[0]) for n in range(4)]
    assert whole == pytest.approx(sum(alone) / 4, rel=1e-3)


def test_the_first_phase_of_airnet_is_its_contrast_alone(tiny_networks):
    config = tiny_networks["airnet"]
    batch = batch_of(config, phase=0)
    assert taken(config, batch, psnr)[0] == taken(config, batch, l1)[0]
