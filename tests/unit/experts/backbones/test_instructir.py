"""InstructIR: the published names and sizes, sentences that gate, and what is predicted without."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.instructir import (
    InstructionBlock,
    InstructIRConfig,
    objective,
)
from expertree.experts.backbones.kinds import KINDS, targets
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.batches import Batch
from expertree.experts.losses import l1
from expertree.experts.published import find_published, load_published
from expertree.experts.sentences import hashed, sentence_of, sentences_for

PUBLISHED = {
    "intro.weight": (32, 3, 3, 3),
    "enc_cond.0.fc.weight": (32, 256),
    "enc_cond.0.beta": (1, 32, 1, 1),
    "enc_cond.3.gamma": (1, 256, 1, 1),
    "enc_cond.3.block.conv1.weight": (512, 256, 1, 1),
    "enc_cond.3.block.norm1.weight": (256,),
    "dec_cond.0.fc.weight": (256, 256),
    "dec_cond.3.fc.weight": (32, 256),
    "dec_cond.3.block.sca.1.weight": (32, 32, 1, 1),
    "encoders.3.7.conv1.weight": (512, 256, 1, 1),
    "middle_blks.3.conv1.weight": (1024, 512, 1, 1),
    "downs.3.weight": (512, 256, 2, 2),
    "ups.0.0.weight": (1024, 512, 1, 1),
    "ending.weight": (3, 32, 3, 3),
}
OURS = ("head.", "predictor.")


@pytest.fixture
def config(tiny_networks):
    return tiny_networks["instructir"]


def size(network, *beginnings):
    named = network.named_parameters()
    return sum(value.numel() for name, value in named if name.startswith(beginnings))


def network_of(config, seed=0):
    """A network whose sentences count."""
    torch.manual_seed(seed)
    network = build_backbone(config)
    for name, value in network.named_parameters():
        if name.endswith(("gamma", "beta")):
            torch.nn.init.normal_(value, std=0.5)
    return network


def said(*tasks):
    return {"sentence": torch.from_numpy(hashed([sentence_of(own) for own in tasks]))}


def test_a_full_size_network_has_the_published_names_shapes_and_sizes():
    with torch.device("meta"):
        network = build_backbone(InstructIRConfig())
        plain = build_backbone(InstructIRConfig().nafnet)
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert {name: found.get(name) for name in PUBLISHED} == PUBLISHED
    assert set(plain.state_dict()) <= set(found)
    assert size(network, "") - size(network, *OURS) == 15_843_363
    assert size(network, "head.") == 100_359
    assert size(network, "enc_cond.", "dec_cond.") == 1_498_880
    assert size(network, "predictor.") == 7 * 512 + 7


def test_a_published_file_opens_and_leaves_what_it_lacks(config, tmp_path):
    source = network_of(config)
    content = source.state_dict()
    theirs = {n: v for n, v in content.items() if not n.startswith((*OURS, "prototypes"))}
    torch.save(theirs, tmp_path / "im_instructir-7d.pt")
    target = network_of(config, seed=1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    load_published(target, config, find_published(str(tmp_path / "im_instructir-7d.pt")))
    for name, value in target.state_dict().items():
        assert torch.equal(value, theirs.get(name, before[name])), name


def test_blocks_start_as_the_identity_and_their_first_step_moves_no_gate():
    torch.manual_seed(0)
    block = InstructionBlock(4, 8, fast=True)
    x = torch.rand(2, 4, 6, 6)
    assert torch.equal(block(x, torch.rand(2, 8)), x)
    block(x, torch.rand(2, 8)).square().sum().backward()
    assert not block.fc.weight.grad.any()
    assert block.gamma.grad.any()


def test_at_first_it_is_the_nafnet_within_it(config):
    torch.manual_seed(0)
    network = build_backbone(config).eval()
    plain = build_backbone(config.nafnet).eval()
    state = network.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    image = torch.rand(1, 3, 13, 22)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), plain(image))
    assert isinstance(config.nafnet, NAFNetConfig)


def test_a_sentence_changes_the_image_and_a_batch_of_two_equals_two_of_one(config):
    network = network_of(config).eval()
    image = torch.rand(1, 3, 16, 16).expand(2, -1, -1, -1)
    condition = said(("noise",), ("haze",))
    with torch.inference_mode():
        both = network(image, condition)
        assert not torch.allclose(both[0], both[1], atol=1e-3)
        for row in range(2):
            one = {name: value[row : row + 1] for name, value in condition.items()}
            alone = network(image[row : row + 1], one)
            torch.testing.assert_close(alone[0], both[row], rtol=0, atol=1e-5)
        assert torch.equal(network(image, condition), both)


def test_without_a_sentence_it_is_told_what_the_embedding_predicts(config):
    network = network_of(config).eval()
    with torch.no_grad():
        network.predictor.weight.zero_()
        network.predictor.bias.copy_(100.0 * F.one_hot(torch.tensor(3), 7))
        image = torch.rand(1, 3, 16, 16)
        predicted = network(image, {"embedding": torch.rand(1, config.embed_dim)})
        told = network(image, {"sentence": network.prototypes[3:4]})
    torch.testing.assert_close(predicted, told)
    mean = torch.from_numpy(hashed(sentences_for((KINDS[3],)))).mean(dim=0)
    torch.testing.assert_close(network.prototypes[3], F.normalize(mean, dim=0))


def test_a_mixture_counts_for_each_of_its_degradations():
    tasks = [("noise", "rain"), (), ("motion_blur",), ("vignette",), ("blur", "motion_blur")]
    shares, known = targets(tasks, KINDS, torch.zeros(()))
    assert known == [0, 2, 4]
    expected = torch.zeros(3, 7)
    expected[0, [0, 2]] = 0.5
    expected[[1, 2], 1] = 1.0
    assert torch.equal(shares, expected)


def batch_of(config, tasks, side_px=16):
    torch.manual_seed(1)
    lq = torch.rand(len(tasks), 3, side_px, side_px)
    embedding = {"embedding": torch.randn(len(tasks), config.embed_dim)}
    return Batch(lq=lq, gt=lq.flip(0), tasks=tasks, condition=said(*tasks) | embedding)


def test_what_is_named_and_predicted_is_learnt_by_the_head_and_the_predictor_alone(config):
    network = network_of(config)
    tasks = [(name,) for name in KINDS]
    batch = batch_of(config, tasks, side_px=4)
    auxiliary = objective(network, batch, lambda restored, _: 0.0 * restored.sum())
    assert 1.0 < float(auxiliary.detach()) < 20.0
    gradients = torch.autograd.grad(auxiliary, list(network.parameters()), allow_unused=True)
    moved = {
        name.partition(".")[0]
        for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True)
        if gradient is not None and gradient.abs().max() > 0
    }
    assert moved == {"head", "predictor"}
    optimizer = torch.optim.Adam([*network.head.parameters(), *network.predictor.parameters()], 0.3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = objective(network, batch, lambda restored, _: 0.0 * restored.sum())
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05


def test_the_loss_of_mixtures_is_least_at_their_shares():
    """Cross-entropy against shares has their entropy as its minimum."""
    shares, _ = targets([("noise", "rain")], KINDS, torch.zeros(()))
    logits = torch.where(shares > 0, 0.0, -50.0)
    assert float(F.cross_entropy(logits, shares)) == pytest.approx(math.log(2))


def test_a_batch_that_names_nothing_known_is_trained_on_its_images(config):
    network = network_of(config)
    batch = batch_of(config, [("vignette",), ()])
    batch = dataclasses.replace(batch, condition={"embedding": batch.condition["embedding"]})
    loss = objective(network, batch, l1).detach()
    assert loss == l1(network(batch.lq, batch.condition), batch.gt).detach()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_full_size_step_runs_on_a_cpu():
    torch.manual_seed(0)
    config = InstructIRConfig()
    network = build_backbone(config)
    batch = batch_of(config, [("noise",)])
    image = torch.rand(1, 3, 128, 128)
    loss = objective(network, dataclasses.replace(batch, lq=image, gt=1 - image), l1)
    loss.backward()
    assert math.isfinite(float(loss.detach()))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"told_width": 0}, "positive text_dim, told_width, embed_dim"),
        ({"decoder": (1, 1)}, "as many decoder scales"),
    ],
)
def test_what_cannot_be_built_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        InstructIRConfig(**sizes)
