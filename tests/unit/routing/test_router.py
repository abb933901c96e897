"""The routers' network and its file."""

import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from expertree.errors import ArtefactError
from expertree.routing import Router, RouterShape, load_router, save_router
from expertree.routing.router import NoisyGate
from expertree.storage import Storage

SHAPE = RouterShape(embed_dim=16, num_leaves=3, num_levels=2)
GATES_WITH_AS_IS = (
    b'{"version": 3, "as_is_margin_db": 0.1, "shape": {"embed_dim": 16, "num_leaves": 3,'
    b' "num_levels": 2, "num_costs": 0, "has_root": true, "has_as_is": true}}'
)


def test_heads_are_five_linear_layers_with_leaky_relu_between_and_batch_norm_last() -> None:
    for head in (Router(SHAPE).degradation_head, Router(SHAPE).granularity_head):
        kinds = [type(layer) for layer in head]
        assert kinds == [nn.Linear, nn.LeakyReLU] * 4 + [nn.Linear, nn.BatchNorm1d]
        assert {layer.negative_slope for layer in head if isinstance(layer, nn.LeakyReLU)} == {0.1}


def test_a_new_router_finds_all_choices_equally_likely() -> None:
    output = Router(SHAPE).eval()(torch.randn(4, 16))
    assert not output.leaf_logits.any()
    assert not output.level_logits.any()


def test_gates_are_noisy_in_training_only() -> None:
    torch.manual_seed(0)
    gate, features = NoisyGate(16, 3), torch.randn(2000, 16)
    noise = gate(features)
    assert noise.std().item() == pytest.approx(math.log(2) + 0.01, rel=0.05)
    gate.eval()
    assert torch.equal(gate(features), gate(features))


def test_a_saved_router_decides_the_same(tmp_path: Path) -> None:
    router = Router(SHAPE)
    router(torch.randn(8, 16))  # moves BatchNorm's statistics
    nn.init.normal_(router.leaf_gate.weight)
    storage = Storage.open(tmp_path / "router")
    save_router(router, storage)
    points = torch.randn(5, 16)
    loaded = load_router(storage)
    assert not loaded.training
    assert torch.equal(loaded(points).leaf_logits, router.eval()(points).leaf_logits)
    assert torch.equal(loaded(points).log_variance, router(points).log_variance)


def test_the_same_router_gives_the_same_bytes(tmp_path: Path) -> None:
    router = Router(SHAPE)
    one, two = Storage.open(tmp_path / "one"), Storage.open(tmp_path / "two")
    save_router(router, one)
    save_router(router, two)
    assert one.list_files() == ["router.json", "router.safetensors"]
    for name in one.list_files():
        assert one.read_bytes(name) == two.read_bytes(name)


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    save_router(Router(SHAPE), storage)
    weights = safetensors.torch.load(storage.read_bytes("router.safetensors"))
    weights["leaf_gate.weight"] = torch.zeros(4, 16)
    storage.write_bytes("router.safetensors", safetensors.torch.save(weights))
    with pytest.raises(ArtefactError, match=r"router\.safetensors.*leaf_gate\.weight"):
        load_router(storage)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("router.json", b"{"),
        ("router.json", b'{"version": 9}'),
        ("router.json", b'{"version": 1}'),
        ("router.json", GATES_WITH_AS_IS),
        ("router.safetensors", b"not safetensors"),
    ],
)
def test_damage_is_refused_by_file(tmp_path: Path, name: str, content: bytes) -> None:
    storage = Storage.open(tmp_path)
    save_router(Router(SHAPE), storage)
    storage.write_bytes(name, content)
    with pytest.raises(ArtefactError, match=name):
        load_router(storage)


def test_a_router_without_a_root_never_chooses_it_and_learns_of_it_all_the_same(
    tmp_path: Path,
) -> None:
    shape = RouterShape(embed_dim=16, num_leaves=3, num_levels=2, num_costs=4, has_root=False)
    router = Router(shape)
    assert router(torch.randn(4, 16)).level_logits.isfinite().all()
    save_router(router, Storage.open(tmp_path))
    output = load_router(Storage.open(tmp_path))(torch.randn(4, 16))
    assert output.level_logits[:, 0].isneginf().all()
    assert output.level_logits[:, 1:].isfinite().all()
    assert output.costs[:, 0].isposinf().all()


def test_the_cost_of_the_input_and_the_margin_are_saved_with_the_router(tmp_path: Path) -> None:
    shape = RouterShape(embed_dim=16, num_leaves=3, num_levels=2, num_costs=4, has_as_is=True)
    router = Router(shape, as_is_margin_db=0.25)
    save_router(router, Storage.open(tmp_path))
    points = torch.randn(5, 16)
    output, expected = load_router(Storage.open(tmp_path))(points), router.eval()(points)
    assert output.costs.shape == (5, 4)
    assert torch.equal(output.as_is_cost, expected.as_is_cost)
    assert output.as_is_margin_db == 0.25
    some = output.rows([3, 1])
    assert torch.equal(some.as_is_cost, output.as_is_cost[[3, 1]])


def test_a_router_of_the_format_before_opens_and_knows_no_cost_of_the_input(
    tmp_path: Path,
) -> None:
    storage = Storage.open(tmp_path)
    router = Router(RouterShape(embed_dim=16, num_leaves=3, num_levels=2, num_costs=4))
    save_router(router, storage)
    header = storage.read_json("router.json")
    del header["as_is_margin_db"], header["shape"]["has_as_is"]
    storage.write_json("router.json", header | {"version": 2})
    output = load_router(storage)(torch.randn(5, 16))
    assert output.costs.shape == (5, 4)
    assert output.as_is_cost is None


def test_a_router_of_one_head_opens_from_the_format_before(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    shape = RouterShape(embed_dim=16, num_leaves=3, num_levels=2, num_costs=4, has_as_is=True)
    router = Router(shape, as_is_margin_db=0.25).eval()
    save_router(router, storage)
    header = storage.read_json("router.json")
    del header["caution"], header["shape"]["num_cost_heads"]
    storage.write_json("router.json", header | {"version": 3})
    weights = safetensors.torch.load(storage.read_bytes("router.safetensors"))
    old = {name.replace("cost_heads.0.", "cost_head."): w for name, w in weights.items()}
    storage.write_bytes("router.safetensors", safetensors.torch.save(old))
    points = torch.randn(5, 16)
    assert torch.equal(load_router(storage)(points).costs, router(points).costs)


def test_a_router_of_the_format_before_doubts_costs(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path / "old")
    shape = RouterShape(
        embed_dim=16, num_leaves=3, num_levels=2, num_costs=4, num_cost_heads=3, has_as_is=True
    )
    save_router(Router(shape, caution=1.5), storage)
    header = storage.read_json("router.json")
    del header["doubt"]
    storage.write_json("router.json", header | {"version": 4})
    router, points = load_router(storage), torch.randn(5, 16)
    heads = torch.stack([head(points) for head in router.cost_heads])
    costs = (heads.mean(dim=0) + 1.5 * heads.std(dim=0, correction=0))[:, :-1]
    torch.testing.assert_close(router(points).costs, costs)
    save_router(router, Storage.open(tmp_path / "packed again"))
    again = load_router(Storage.open(tmp_path / "packed again"))
    assert torch.equal(again(points).costs, router(points).costs)


def test_the_costs_of_experts_are_raised_by_what_the_heads_disagree(tmp_path: Path) -> None:
    shape = RouterShape(
        embed_dim=16, num_leaves=3, num_levels=2, num_costs=4, num_cost_heads=3, has_as_is=True
    )
    router = Router(shape, caution=1.5)
    save_router(router, Storage.open(tmp_path))
    loaded, points = load_router(Storage.open(tmp_path)), torch.randn(5, 16)
    heads = torch.stack([head(points) for head in loaded.cost_heads])
    output = loaded(points)
    spread = (heads[..., :-1] - heads[..., -1:]).std(dim=0, correction=0)
    torch.testing.assert_close(output.costs, heads.mean(dim=0)[:, :-1] + 1.5 * spread)
    torch.testing.assert_close(output.as_is_cost, heads.mean(dim=0)[:, -1])


def test_measures_decide_costs_alone_and_are_brought_to_one_scale(tmp_path: Path) -> None:
    shape = RouterShape(
        embed_dim=16, num_leaves=3, num_levels=2, num_costs=4, has_as_is=True, num_measures=2
    )
    router = Router(shape)
    router.measures_mean.copy_(torch.tensor([100.0, -1.0]))
    router.measures_std.copy_(torch.tensor([50.0, 0.1]))
    storage = Storage.open(tmp_path / "router")
    save_router(router, storage)
    loaded = load_router(storage)
    points = torch.randn(5, 16)
    one, other = (
        loaded(torch.cat([points, torch.tensor(own).expand(5, 2)], dim=1))
        for own in ((100.0, -1.0), (150.0, -1.2))
    )
    assert torch.equal(one.leaf_logits, other.leaf_logits)
    assert torch.equal(one.log_variance, other.log_variance)
    assert not torch.allclose(one.costs, other.costs)
    scaled = loaded.scaled(torch.cat([points, torch.tensor([[150.0, -1.2]]).expand(5, 2)], dim=1))
    assert torch.allclose(scaled[:, 16:], torch.tensor([[1.0, -2.0]]), atol=1e-5)


def test_a_router_of_other_measures_is_refused(tmp_path: Path) -> None:
    shape = RouterShape(embed_dim=16, num_leaves=3, num_levels=2, num_costs=4, num_measures=2)
    storage = Storage.open(tmp_path / "router")
    save_router(Router(shape), storage)
    header = storage.read_json("router.json") | {"measures": 2}
    storage.write_json("router.json", header)
    with pytest.raises(ArtefactError, match=r"formulas of version 2 measure.*train the routers"):
        load_router(storage)


def test_gates_read_no_measures() -> None:
    with pytest.raises(ValueError, match="num_measures=2 are for heads of costs"):
        Router(RouterShape(embed_dim=16, num_leaves=3, num_levels=2, num_measures=2))


def test_a_router_without_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="num_cost_heads must be at least 1, got 0"):
        Router(RouterShape(embed_dim=16, num_leaves=3, num_levels=2, num_costs=4, num_cost_heads=0))


def test_gates_alone_cannot_leave_an_input_as_it_is() -> None:
    with pytest.raises(ValueError, match="needs predicted costs, but num_costs is 0"):
        Router(RouterShape(embed_dim=16, num_leaves=3, num_levels=2, has_as_is=True))
