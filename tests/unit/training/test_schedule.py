"""Rates rise linearly and fall as a cosine; averages begin short."""

import math

import pytest
import torch

from expertree.training import average_decay, rate_share


def test_it_rises_to_one_at_the_end_of_the_warm_up_and_falls_from_there():
    shares = [rate_share(n, 116, step=4, warmup=16, last=1e-3) for n in range(0, 117, 4)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert shares[-1] == pytest.approx(1e-3)


def test_it_holds_as_long_as_it_is_told_to():
    shares = [rate_share(n, 20, warmup=3, hold=2) for n in range(7)]
    assert shares[:3] == [0.25, 0.5, 0.75]
    assert shares[3:6] == [1.0, 1.0, 1.0]
    assert shares[6] < 1.0


def test_without_a_warm_up_it_is_the_half_cosine():
    shares = [rate_share(n, 10) for n in range(11)]
    assert shares == pytest.approx([(1 + math.cos(math.pi * n / 10)) / 2 for n in range(11)])


@pytest.mark.parametrize("num_steps", [1, 7, 330, 1500])
def test_the_half_cosine_is_torchs_in_float32(num_steps):
    """Routers were trained by torch's; in the precision of the weights both are the same."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    optimizer = torch.optim.AdamW([weight], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for step in range(num_steps):
        theirs = torch.tensor(optimizer.param_groups[0]["lr"], dtype=torch.float32)
        assert torch.tensor(1e-3 * rate_share(step, num_steps), dtype=torch.float32) == theirs
        optimizer.step()
        schedule.step()


def test_an_average_is_short_at_first_and_never_longer_than_asked_for():
    decays = [average_decay(0.99, steps) for steps in (0, 1, 10, 100, 10_000)]
    assert decays[0] == 0.1
    assert decays == sorted(decays)
    assert decays[-1] == 0.99
