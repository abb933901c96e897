"""LoRA-IR: sizes, the router, gates, experts of low rank, and the three phases."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from expertree.config import load
from expertree.errors import ConfigError
from expertree.experts import AdapterConfig, ExpertJob, RecipeConfig
from expertree.experts.backbones import build_backbone, phases_of
from expertree.experts.backbones.lora_ir import Gate, LoRAIRConfig, objective
from expertree.experts.batches import Batch
from expertree.experts.losses import l1
from expertree.pipeline.settings import ExpertsConfig

SETTING_I = LoRAIRConfig(kinds=("snow", "rain", "haze"))
FIVE_GATES, SHARED, NAFNET = 684_988, 295_680, 67_888_835


@pytest.fixture
def config(tiny_networks):
    return tiny_networks["lora_ir"]


def size(network, *beginnings):
    named = network.named_parameters()
    return sum(value.numel() for name, value in named if name.startswith(beginnings))


def network_of(config, seed=0):
    """A network whose gates and experts count."""
    torch.manual_seed(seed)
    network = build_backbone(config)
    for name, value in network.named_parameters():
        if name.startswith("experts.") or name.endswith(("beta", "gamma")):
            torch.nn.init.normal_(value, std=0.05)
        if name.startswith("router.head"):
            torch.nn.init.normal_(value, std=3.0)
    return network


def condition_of(config, num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(num, config.embed_dim, generator=generator)
        for name in ("embedding", "squeezed")
    }


def rows(condition, part):
    return {name: value[part] for name, value in condition.items()}


def test_a_full_size_network_has_the_sizes_of_the_paper():
    with torch.device("meta"):
        nine = build_backbone(SETTING_I)
        five = build_backbone(dataclasses.replace(SETTING_I, gated_decoder=False))
    assert size(five, "net.") == NAFNET + FIVE_GATES + SHARED == 68_869_503
    gates = [size(nine, f"net.gates.{place}.") for place in range(9)]
    assert gates[:5] == [58_308, 68_360, 91_536, 150_176, 316_608]
    assert gates[5:] == gates[3::-1]
    assert size(nine, "net.shared.") == SHARED
    assert size(nine, "router.") == 1_475_712 + 384 * 3 + 3
    depth_wise = 301_824
    assert size(five, "experts.0.whole.") == depth_wise + depth_wise // 9
    # 2,130,096 and not 4,262,288: depth-wise kernels are changed whole, larger ones by one rank.
    assert size(five, "experts.0.") == 2_130_096
    assert size(five, "experts.") == 3 * 2_130_096


def test_gates_start_as_the_identity():
    torch.manual_seed(0)
    gate = Gate(32, SETTING_I)
    x, wrong = torch.rand(2, 32, 4, 4), torch.rand(2, 384)
    assert torch.equal(gate(x, wrong), x)
    gate(x, wrong).square().sum().backward()
    assert gate.beta.grad.any()


def test_at_first_it_is_the_nafnet_within_it(config):
    torch.manual_seed(0)
    network = build_backbone(config).eval()
    plain = build_backbone(config.nafnet).eval()
    inner = network.net.state_dict()
    plain.load_state_dict({name: inner[name] for name in plain.state_dict()})
    image, condition = torch.rand(2, 3, 13, 18), condition_of(config, 2)
    with torch.inference_mode():
        torch.testing.assert_close(network(image, condition), plain(image))


@pytest.mark.parametrize("top", [1, 2])
def test_a_batch_of_two_equals_two_of_one(config, top):
    network = network_of(dataclasses.replace(config, top=top)).eval()
    image, condition = torch.rand(6, 3, 16, 16), condition_of(config, 6)
    with torch.inference_mode():
        together = network(image, condition)
        _, logits = network.judge(image, condition)
        assert len({tuple(row) for row in network.weights(logits).tolist()}) > 1
        for row in range(6):
            part = slice(row, row + 1)
            alone = network(image[part], rows(condition, part))
            torch.testing.assert_close(alone, together[part], rtol=1e-4, atol=1e-4)
        assert torch.equal(network(image, condition), together)


def test_the_expert_that_weighs_most_is_told(config):
    network = network_of(config).eval()
    image, condition = torch.rand(3, 3, 16, 16), condition_of(config, 3)
    with torch.inference_mode():
        restored, taken = network.restore_and_choose(image, condition)
        weights = network.weights(network.judge(image, condition)[1])
        assert torch.equal(restored, network(image, condition))
    assert torch.equal(taken[:, 0].argmax(dim=-1), weights.argmax(dim=-1))


def test_weights_are_the_softmax_of_the_highest_logits(config):
    network = build_backbone(dataclasses.replace(config, top=2))
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 5.0]])
    expected = torch.zeros(2, 3)
    expected[0, [1, 2]] = F.softmax(torch.tensor([3.0, 2.0]), dim=0)
    expected[1, [2, 0]] = F.softmax(torch.tensor([5.0, 0.0]), dim=0)
    torch.testing.assert_close(network.weights(logits), expected)


def test_an_expert_is_the_network_with_the_change_of_its_rank(config):
    """By hand for every layer: W + alpha / rank B A, and depth-wise W + D."""
    network = network_of(config).eval()
    image, condition = torch.rand(1, 3, 16, 16), condition_of(config, 1)
    with torch.inference_mode():
        features, logits = network.judge(image, condition)
        expert = network.experts[int(logits.argmax())]
        expected = network(image, condition)
        changed = 0
        for name, layer in network.net.named_modules():
            key = name.replace(".", "/")
            if key in expert.up:
                rank = (expert.up[key] @ expert.down[key].flatten(1)).view(layer.weight.shape)
                layer.weight += config.alpha / config.rank * rank
                changed += 1
            elif f"{key}/weight" in expert.whole:
                layer.weight += expert.whole[f"{key}/weight"]
                layer.bias += expert.whole[f"{key}/bias"]
                changed += 1
        torch.testing.assert_close(network.net(image, features), expected, rtol=1e-4, atol=1e-4)
    assert changed == len(expert.up) + len(expert.whole) // 2


def batch_of(config, phase):
    torch.manual_seed(1)
    tasks = [("noise",), ("haze",), ("noise", "blur"), ("rain",)]
    lq = torch.rand(4, 3, 16, 16)
    condition = condition_of(config, 4)
    return Batch(lq=lq, gt=lq.flip(0), tasks=tasks, condition=condition, phase=phase)


def moved_by(network, loss):
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return {
        name.partition(".")[0]
        for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True)
        if gradient is not None and gradient.abs().max() > 0
    }


def test_the_first_phase_teaches_the_router_alone_down_to_the_entropy_of_mixtures(config):
    network = network_of(config)
    batch = batch_of(config, 0)
    first = objective(network, batch, l1)
    assert float(first.detach()) > math.log(2) / 4
    assert moved_by(network, first) == {"router"}
    optimizer = torch.optim.Adam(network.router.parameters(), 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss = objective(network, batch, l1)
        loss.backward()
        optimizer.step()
    # Three samples of kinds that it knows; the mixture's two halves cost log 2.
    assert float(loss.detach()) == pytest.approx(math.log(2) / 4, abs=0.01)


def test_a_batch_without_known_kinds_teaches_nothing(config):
    batch = dataclasses.replace(batch_of(config, 0), tasks=[("rain",), (), ("snow",), ("rain",)])
    network = network_of(config)
    assert moved_by(network, objective(network, batch, l1)) == set()


def test_the_second_phase_leaves_the_experts_out_and_the_third_teaches_the_chosen(config):
    network = network_of(config)
    features = moved_by(network, objective(network, batch_of(config, 1), l1))
    assert features == {"net", "router"}
    third = objective(network, batch_of(config, 2), l1)
    batch = batch_of(config, 2)
    chosen = set(network.judge(batch.lq, batch.condition)[1].argmax(dim=1).tolist())
    third.backward()
    for number, expert in enumerate(network.experts):
        grads = [value.grad for value in expert.parameters()]
        taught = any(grad is not None and bool(grad.any()) for grad in grads)
        assert taught == (number in chosen)


def test_what_the_phases_leave_alone_adds_up_to_the_network(config):
    from_phases = {0: {"router"}, 1: {"net"}, 2: {"experts"}}
    parts = {name.partition(".")[0] for name, _ in build_backbone(config).named_parameters()}
    for number, phase in enumerate(phases_of(config)):
        still = {name.removesuffix(".") for name in phase.still}
        assert parts - still == from_phases[number]


def test_adapters_on_it_are_refused(config):
    with pytest.raises(ValueError, match="has low-rank experts of its own"):
        ExpertJob(
            key="e",
            backbone=config,
            recipe=RecipeConfig(),
            num_samples=8,
            seed=0,
            init="/store/expert/r",
            adapter=AdapterConfig(),
        )
    with pytest.raises(ConfigError, match="low-rank experts of its own: set adapter to null"):
        load(ExpertsConfig, {"backbone": {"name": "lora_ir"}, "adapter": {"rank": 8}})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_full_size_step_of_each_phase_runs_on_a_cpu():
    torch.manual_seed(0)
    network = build_backbone(SETTING_I)
    image = torch.rand(1, 3, 128, 128)
    batch = Batch(lq=image, gt=1 - image, tasks=[("rain",)], condition=condition_of(SETTING_I, 1))
    for phase in range(3):
        loss = objective(network, dataclasses.replace(batch, phase=phase), l1)
        loss.backward()
        assert math.isfinite(float(loss.detach()))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"top": 0}, "at most as many experts at once"),
        ({"top": 8}, "top=8"),
        ({"kinds": ("noise", "noise")}, "different kinds"),
        ({"rank": 0}, "positive ranks and sizes"),
        ({"decoder": (1, 1)}, "as many decoder scales"),
    ],
)
def test_what_cannot_be_built_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        LoRAIRConfig(**sizes)
