import pytest
import torch
from torch import nn

from expertree.training import FlatParameters, Optimizer, muon_split
from expertree.training.optimizers import Matrices, orthogonalise


def tiny():
    """Matrices of two shapes, a depth-wise kernel, biases, and a last layer of three channels."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 8, 1),
        nn.Conv2d(8, 3, 3),
    )


def optimizer_of(name):
    network = tiny()
    flat = FlatParameters(network)
    matrices, rest = muon_split(network, flat) if name == "muon" else ([], [flat.vector])
    optimizer = Optimizer(
        rest, matrices=matrices, learning_rate=2e-3, matrix_learning_rate=0.015, weight_decay=0.0
    )
    return network, flat, optimizer


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 5), (2, 5, 16)])
def test_orthogonalised_matrices_have_singular_values_of_about_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape) * 1e-3))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_zero_gradient_moves_nothing():
    assert (orthogonalise(torch.zeros(2, 4, 4)) == 0).all()


def test_a_matrix_that_no_sample_reached_stays_while_those_of_its_shape_move():
    torch.manual_seed(0)
    weights = [torch.randn(8, 8) for _ in range(2)]
    gradients = [torch.randn(8, 8) for _ in weights]
    matrices = Matrices(list(zip(weights, gradients, strict=True)))
    matrices.step(0.01, 0.0)
    gradients[0].zero_()
    before = [tensor.clone() for tensor in (*weights, *matrices.momentum)]
    matrices.step(0.01, 0.0)
    after = [*weights, *matrices.momentum]
    same = [torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert same == [True, False, True, False]


def test_a_scaled_gradient_moves_a_matrix_by_as_much():
    torch.manual_seed(0)
    matrices = torch.randn(2, 16, 9)
    found = orthogonalise(matrices * 1e-3)
    torch.testing.assert_close(found, orthogonalise(matrices), rtol=1e-4, atol=1e-4)


def test_every_weight_moves_by_one_of_the_two():
    for name in ("adamw", "muon"):
        network, flat, optimizer = optimizer_of(name)
        torch.manual_seed(1)
        flat.gradient.copy_(torch.randn_like(flat.gradient))
        before = [p.detach().clone() for p in network.parameters()]
        optimizer.step(1.0)
        for old, (own, parameter) in zip(before, network.named_parameters(), strict=True):
            assert not torch.equal(old, parameter.detach()), f"{name}: {own}"


def test_muon_without_matrices_is_adamw_on_the_rest():
    """Vectors move alike under both, so that only matrices are Muon's."""
    moved = {}
    for name in ("adamw", "muon"):
        network, flat, optimizer = optimizer_of(name)
        torch.manual_seed(1)
        flat.gradient.copy_(torch.randn_like(flat.gradient))
        optimizer.step(0.5)
        moved[name] = {own: p.detach().clone() for own, p in network.named_parameters()}
    for own, value in moved["adamw"].items():
        if value.ndim < 2 or value.shape[1] == 1:
            torch.testing.assert_close(moved["muon"][own], value)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_state_that_was_written_goes_on_to_the_bit(name):
    gradients = [torch.randn(1, generator=torch.Generator().manual_seed(n)) for n in range(6)]

    def steps(flat, optimizer, chosen):
        for gradient in chosen:
            flat.gradient.copy_(torch.sin(torch.arange(len(flat.gradient)) * gradient))
            optimizer.step(1.0)

    _, whole, optimizer = optimizer_of(name)
    steps(whole, optimizer, gradients)
    _, first, optimizer = optimizer_of(name)
    steps(first, optimizer, gradients[:3])
    kept = {key: value.clone() for key, value in optimizer.tensors().items()}
    _, second, optimizer = optimizer_of(name)
    second.vector.data.copy_(first.vector.data)
    optimizer.resume(kept)
    steps(second, optimizer, gradients[3:])
    assert torch.equal(second.vector, whole.vector)


@pytest.mark.parametrize("fused", [True, False])
def test_only_what_is_given_to_decay_decays(fused):
    decayed, alone = (nn.Parameter(torch.ones(4)) for _ in range(2))
    optimizer = Optimizer(
        [decayed], undecayed=[alone], learning_rate=0.5, weight_decay=0.1, fused=fused
    )
    decayed.grad, alone.grad = torch.zeros(4), torch.zeros(4)
    optimizer.step(0.5)
    assert torch.equal(alone, torch.ones(4))
    torch.testing.assert_close(decayed.detach(), torch.full((4,), 1 - 0.5 * 0.5 * 0.1))


def test_a_weight_that_never_had_a_gradient_resumes_too():
    def made():
        weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
        return weights, Optimizer(weights, learning_rate=0.1, weight_decay=0.0)

    (used, unused), optimizer = made()
    used.grad = torch.ones(3)
    optimizer.step(1.0)
    (again, never), other = made()
    other.resume({name: tensor.clone() for name, tensor in optimizer.tensors().items()})
    again.data.copy_(used.data)
    for weight, one in ((used, optimizer), (again, other)):
        weight.grad = torch.full((3,), 2.0)
        one.step(1.0)
    assert torch.equal(again, used)
    assert torch.equal(never, unused)


def test_a_state_follows_the_memory_format_of_its_weight():
    shape = (4, 3, 2, 2)
    plain = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def stepped(weight, optimizer):
        weight.grad = (plain * 3).contiguous(memory_format=torch.channels_last)
        optimizer.step(1.0)

    def made():
        weight = nn.Parameter(plain.contiguous(memory_format=torch.channels_last))
        return weight, Optimizer([weight], learning_rate=0.1, weight_decay=0.0)

    whole, optimizer = made()
    stepped(whole, optimizer)
    kept = {name: tensor.clone().contiguous() for name, tensor in optimizer.tensors().items()}
    middle = whole.detach().clone()
    whole.data.copy_(middle)
    stepped(whole, optimizer)
    again, other = made()
    again.data.copy_(middle)
    other.resume(kept)
    stepped(again, other)
    assert torch.equal(again, whole)
