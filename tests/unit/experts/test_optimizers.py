import pytest
import torch

from expertree.experts.backbones import build_backbone
from expertree.experts.flat import FlatParameters
from expertree.experts.optimizers import Optimizer, orthogonalise
from expertree.experts.recipe import RecipeConfig


def optimizer_of(config, **values):
    torch.manual_seed(0)
    network = build_backbone(config)
    flat = FlatParameters(network)
    return network, flat, Optimizer(network, flat, RecipeConfig(**values))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 5), (2, 5, 16)])
def test_orthogonalised_matrices_have_singular_values_of_about_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape) * 1e-3))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_zero_gradient_moves_nothing():
    assert (orthogonalise(torch.zeros(2, 4, 4)) == 0).all()


def test_a_scaled_gradient_moves_a_matrix_by_as_much():
    torch.manual_seed(0)
    matrices = torch.randn(2, 16, 9)
    found = orthogonalise(matrices * 1e-3)
    torch.testing.assert_close(found, orthogonalise(matrices), rtol=1e-4, atol=1e-4)


def test_every_weight_moves_by_one_of_the_two(tiny):
    for name in ("adamw", "muon"):
        network, flat, optimizer = optimizer_of(tiny, optimizer=name)
        torch.manual_seed(1)
        flat.gradient.copy_(torch.randn_like(flat.gradient))
        before = [p.detach().clone() for p in network.parameters()]
        optimizer.step(1.0)
        for old, (own, parameter) in zip(before, network.named_parameters(), strict=True):
            assert not torch.equal(old, parameter.detach()), f"{name}: {own}"


def test_muon_without_matrices_is_adamw_on_the_rest(tiny):
    """Vectors move alike under both, so that only matrices are Muon's."""
    moved = {}
    for name in ("adamw", "muon"):
        network, flat, optimizer = optimizer_of(tiny, optimizer=name)
        torch.manual_seed(1)
        flat.gradient.copy_(torch.randn_like(flat.gradient))
        optimizer.step(0.5)
        moved[name] = {own: p.detach().clone() for own, p in network.named_parameters()}
    for own, value in moved["adamw"].items():
        if value.ndim < 2 or value.shape[1] == 1:
            torch.testing.assert_close(moved["muon"][own], value)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_state_that_was_written_goes_on_to_the_bit(tiny, name):
    gradients = [torch.randn(1, generator=torch.Generator().manual_seed(n)) for n in range(6)]

    def steps(flat, optimizer, chosen):
        for gradient in chosen:
            flat.gradient.copy_(torch.sin(torch.arange(len(flat.gradient)) * gradient))
            optimizer.step(1.0)

    _, whole, optimizer = optimizer_of(tiny, optimizer=name)
    steps(whole, optimizer, gradients)
    _, first, optimizer = optimizer_of(tiny, optimizer=name)
    steps(first, optimizer, gradients[:3])
    kept = {key: value.clone() for key, value in optimizer.state().items()}
    _, second, optimizer = optimizer_of(tiny, optimizer=name)
    second.vector.data.copy_(first.vector.data)
    optimizer.resume(kept)
    steps(second, optimizer, gradients[3:])
    assert torch.equal(second.vector, whole.vector)
