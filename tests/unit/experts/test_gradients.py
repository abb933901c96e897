"""Gradients in pieces equal those of the whole; lack of memory makes the pieces smaller."""

import pytest
import torch
from torch import nn

from expertree.errors import TrainingError
from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.batches import Batch
from expertree.experts.gradients import Gradients
from expertree.experts.recipe import RecipeConfig
from expertree.training.flat import FlatParameters


class Limited(nn.Module):
    """Has memory for so many samples at once."""

    def __init__(self, network: nn.Module, limit: int, error: Exception) -> None:
        super().__init__()
        self.network, self.limit, self.error = network, limit, error

    def forward(self, image):
        if len(image) > self.limit:
            raise self.error
        return self.network(image)


def network():
    torch.manual_seed(0)
    return build_backbone(NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)))


def batch(num=6):
    torch.manual_seed(1)
    lq, gt = torch.rand(num, 3, 16, 16), torch.rand(num, 3, 16, 16)
    return Batch(lq=lq, gt=gt, tasks=[("noise",), ("rain",)] * (num // 2))


def gradient(recipe=None, *, limit=None, error=None, num=6, out_of=6, notes=None):
    inner = network()
    flat = FlatParameters(inner)
    called = inner if limit is None else Limited(inner, limit, error)
    notes = [] if notes is None else notes
    gradients = Gradients(called, flat, recipe or RecipeConfig(), on_note=notes.append)
    loss = gradients.compute(batch(num), out_of=out_of)
    return float(loss), flat.gradient.clone(), gradients


@pytest.mark.parametrize("most", [None, 1, 4])
def test_a_network_may_be_trained_on_more_than_its_image(most):
    """Such as a loss of its own beside the recipe's, by what is wrong with each sample."""
    seen = []

    def objective(network, batch, loss):
        seen.append(tuple(batch.tasks))
        return loss(network(batch.lq), batch.gt) + network.intro.weight.square().mean()

    inner = network()
    flat = FlatParameters(inner)
    recipe = RecipeConfig(loss="l1", micro_batch_size=most)
    gradients = Gradients(inner, flat, recipe, objective=objective, on_note=print)
    loss = float(gradients.compute(batch(), out_of=6))
    plain_loss, plain, _ = gradient(RecipeConfig(loss="l1"))
    weight = inner.intro.weight.detach()
    assert loss == pytest.approx(plain_loss + float(weight.square().mean()), rel=1e-5)
    own = torch.autograd.functional.jacobian(lambda w: w.square().mean(), weight)
    difference = flat.gradient - plain
    assert float(difference.norm()) == pytest.approx(float(own.norm()), rel=1e-3)
    assert sum(map(len, seen)) == 6
    assert {task for tasks in seen for (task,) in tasks} == {"noise", "rain"}


@pytest.mark.parametrize("loss", ["l1", "charbonnier", "l1_fft", "psnr"])
@pytest.mark.parametrize("most", [1, 4])
def test_pieces_sum_up_to_the_whole_batch(loss, most):
    whole_loss, whole, _ = gradient(RecipeConfig(loss=loss))
    some_loss, some, _ = gradient(RecipeConfig(loss=loss, micro_batch_size=most))
    assert some_loss == pytest.approx(whole_loss, rel=1e-6)
    torch.testing.assert_close(some, whole, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CPU: can't allocate memory")],
)
def test_without_memory_for_all_it_takes_half_and_says_so(error):
    notes = []
    _, whole, _ = gradient()
    _, found, gradients = gradient(limit=1, error=error, notes=notes)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-7)
    assert gradients.most == 1
    assert notes == [
        "out of memory with 6 samples at once, so 3 at once now",
        "out of memory with 3 samples at once, so 1 at once now",
    ]


def test_without_memory_for_one_sample_it_stops():
    with pytest.raises(TrainingError, match="one sample of 16 x 16 px"):
        gradient(limit=0, error=torch.OutOfMemoryError("no"))


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes differ"):
        gradient(limit=0, error=RuntimeError("shapes differ"))


def test_a_share_of_a_batch_counts_as_its_part_of_the_mean():
    whole_loss, whole, _ = gradient(num=6, out_of=6)
    part_loss, part, _ = gradient(num=6, out_of=12)
    assert part_loss == pytest.approx(whole_loss / 2, rel=1e-6)
    torch.testing.assert_close(part, whole / 2, rtol=1e-4, atol=1e-7)
    none_loss, none, _ = gradient(num=0, out_of=6)
    assert none_loss == 0.0
    assert not none.any()


def test_bfloat16_is_near_float32():
    exact_loss, exact, _ = gradient()
    loss, found, _ = gradient(RecipeConfig(precision="bfloat16"))
    assert found.dtype == torch.float32
    assert loss == pytest.approx(exact_loss, rel=2e-2)
    assert torch.nn.functional.cosine_similarity(found, exact, dim=0) > 0.98
