"""Adapters: how large they are, and that peft's network and the merged one are the same."""

import math

import pytest
import torch
from torch import nn

from expertree.config import load
from expertree.errors import ConfigError
from expertree.experts.adapter import (
    Adapter,
    AdapterConfig,
    adapter_layers,
    adapter_shapes,
    merge,
)
from expertree.experts.backbones import BACKBONES, Norm, backbone_config, build_backbone
from expertree.experts.backbones.airnet import DeformableConvolution
from expertree.experts.backbones.restormer import RestormerConfig
from expertree.experts.lora import attach_adapter

MERGED_ATOL = 1e-10
"""Merged against unmerged in float64, outputs of some units: rounding only."""


def count(backbone, **config):
    return sum(math.prod(s) for s in adapter_shapes(backbone, AdapterConfig(**config)).values())


def make_network(backbone, seed, *, fast):
    """A network none of whose parts is the identity."""
    network = build_backbone(backbone, fast=fast)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
    return network.eval()


def disturb(parameters, seed=1):
    """Move an adapter away from where it begins, where it changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in parameters.values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))


@pytest.mark.parametrize(
    ("name", "low_rank", "whole"),
    [("restormer", 1_055_856, 560_304), ("nafnet_gopro", 853_744, 167_680)],
)
def test_adapters_have_the_sizes_that_the_method_states(name, low_rank, whole):
    shapes = adapter_shapes(backbone_config(name), AdapterConfig())
    sizes = {key: math.prod(shape) for key, shape in shapes.items()}
    assert sum(size for key, size in sizes.items() if "lora_" in key) == low_rank
    assert sum(sizes.values()) == low_rank + whole


def test_norms_are_trained_if_asked_for():
    restormer = RestormerConfig()
    with torch.device("meta"):
        norms = [
            m for m in build_backbone(restormer).modules() if isinstance(m, (nn.LayerNorm, Norm))
        ]
    parameters = sum(p.numel() for norm in norms for p in norm.parameters())
    assert len(norms) == 88
    assert count(restormer, train_norms=True) == count(restormer) + parameters


@pytest.fixture(autouse=True)
def _adaptable(request):
    """Networks on which no adapters are trained are left out."""
    names = [request.getfixturevalue(n).name for n in ("tiny",) if n in request.fixturenames]
    if any(not BACKBONES[name].adaptable for name in names):
        pytest.skip("it has low-rank experts of its own")


@pytest.mark.parametrize("kind", sorted({s.config.name for s in BACKBONES.values() if s.adaptable}))
def test_every_layer_with_a_kernel_is_changed_and_every_kind_has_norms(kind, tiny_networks):
    network = build_backbone(tiny_networks[kind], fast=False)
    layers = adapter_layers(network, AdapterConfig(train_norms=True))
    kernels = {
        name
        for name, module in network.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
        # What bends its kernel at each pixel has no two factors: it stays the root's.
        and not isinstance(module, DeformableConvolution)
    }
    kinds = (nn.LayerNorm, nn.BatchNorm2d, Norm)
    norms = {n for n, m in network.named_modules() if isinstance(m, kinds)}
    inside = {f"{norm}.body" for norm in norms}
    assert norms
    assert norms <= set(layers.whole)
    assert kernels - inside <= {*layers.factored, *layers.whole}


@pytest.mark.parametrize("train_norms", [False, True])
def test_what_peft_trains_is_what_the_shapes_say(tiny, train_norms):
    config = AdapterConfig(rank=3, alpha=5, train_norms=train_norms)
    network = build_backbone(tiny, fast=False)
    parameters = attach_adapter(network, config)
    assert {name: tuple(p.shape) for name, p in parameters.items()} == adapter_shapes(tiny, config)
    trainable = {id(p) for p in network.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in parameters.values()}


@pytest.mark.parametrize("train_norms", [False, True])
def test_the_merged_fast_network_equals_pefts_unmerged_one(tiny, train_norms):
    config = AdapterConfig(rank=3, alpha=5, train_norms=train_norms)
    root = make_network(tiny, 0, fast=True).double()
    unmerged = build_backbone(tiny, fast=False).double().eval()
    unmerged.load_state_dict(root.state_dict())
    image = torch.rand(1, 3, 37, 26, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        before = root(image)
        parameters = attach_adapter(unmerged, config)
        torch.testing.assert_close(unmerged(image), before, rtol=0, atol=MERGED_ATOL)
        disturb(parameters)
        tensors = {name: value.detach() for name, value in parameters.items()}
        weights = root.state_dict()
        merge(weights, Adapter(config=config, tensors=tensors), into=weights)
        after = root(image)
        assert (after - before).abs().max() > 0.01
        torch.testing.assert_close(unmerged(image), after, rtol=0, atol=MERGED_ATOL)


def test_the_change_is_pefts_own_to_rounding(tiny_networks):
    tiny, config = tiny_networks["restormer"], AdapterConfig()
    network = make_network(tiny, 0, fast=False)
    plain = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = attach_adapter(network, config)
    disturb(parameters)
    adapter = Adapter(config=config, tensors={n: p.detach() for n, p in parameters.items()})
    merged = {name: value.clone() for name, value in plain.items()}
    merge(plain, adapter, into=merged)
    for layer in adapter_layers(build_backbone(tiny, fast=False), config).factored:
        delta = network.get_submodule(layer).get_delta_weight("default")
        expected = plain[f"{layer}.weight"] + delta
        torch.testing.assert_close(merged[f"{layer}.weight"], expected, rtol=1e-5, atol=1e-6)
    untouched = plain.keys() - adapter.changed
    assert untouched
    assert all(torch.equal(merged[name], plain[name]) for name in untouched)


def test_merging_does_not_depend_on_what_was_there(tiny_networks):
    tiny, config = tiny_networks["nafnet"], AdapterConfig(rank=2)
    root = make_network(tiny, 0, fast=True).state_dict()
    shapes = adapter_shapes(tiny, config)
    adapter = Adapter(config=config, tensors={n: torch.randn(s) for n, s in shapes.items()})
    fresh, used = ({n: torch.randn_like(v) for n, v in root.items()} for _ in range(2))
    for target in (fresh, used, used):
        merge(root, adapter, into=target)
    assert all(torch.equal(fresh[name], used[name]) for name in adapter.changed)


def test_an_adapter_starts_from_the_seed_and_changes_nothing_at_first(tiny_networks):
    def attach(seed):
        torch.manual_seed(seed)
        network = build_backbone(tiny_networks["nafnet"], fast=False)
        torch.manual_seed(seed)
        return attach_adapter(network, AdapterConfig())

    first, again, other = attach(1), attach(1), attach(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["intro.lora_A"], other["intro.lora_A"])
    assert all(not value.any() for name, value in first.items() if name.endswith("lora_B"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": -1}, "alpha must be at least 1"),
        ({"rank": 2.5}, "rank"),
        ({"ranks": 4}, "'ranks'; did you mean 'rank'"),
    ],
)
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        load(AdapterConfig, values)


def test_transposed_and_grouped_convolutions_are_trained_whole():
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2), nn.ConvTranspose2d(4, 4, 2), nn.Conv2d(4, 4, 1)
    )
    layers = adapter_layers(network, AdapterConfig())
    assert (layers.factored, layers.whole) == (("2",), ("0", "1"))
