"""What networks are told in training, and the phases of a training."""

import dataclasses
import functools
import math

import pytest
import torch

from expert_jobs import StoppedError, stop_after, weights
from expertree.degradation.registry import REGISTRY
from expertree.errors import TrainingError
from expertree.experts.adapter import AdapterConfig
from expertree.experts.backbones import (
    BACKBONES,
    backbone_config,
    build_backbone,
    phases_of,
)
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.conditions import SEEN, WINDOW, window_of
from expertree.experts.learner import ExpertLearner
from expertree.experts.patches import read_patches
from expertree.experts.phases import phase_at, rate_share_of
from expertree.experts.recipe import ExpertJob, RecipeConfig, rate_share_at
from expertree.experts.sampling import draw_batch
from expertree.experts.scoring import score_expert
from expertree.experts.sentences import (
    HASHED_DIM,
    PHRASES,
    hashed,
    load_encoder,
    prototype,
    sentence_of,
    sentences_for,
)
from expertree.experts.telling import Told, saying, tell
from expertree.experts.training import Hooks, train_expert
from expertree.experts.weights import read_card
from expertree.storage import Storage
from expertree.training import ALONE

RECIPE = RecipeConfig(
    batch_size=3, patch_px=16, fresh=False, warmup_samples=6, checkpoint_every_samples=9
)
INFORMED = ["instructir", "lora_ir", "sler_ir"]


@functools.cache
def looking(dim):
    """Sees the mean and the spread of colours, repeated."""

    def embed(images):
        told = torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)
        return told.repeat(1, -(-dim // 6))[:, :dim]

    def cells(images):
        parts = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(2).mT
        return parts.repeat(1, 1, -(-dim // 3))[..., :dim]

    sights = {
        "embedding": embed,
        "squeezed": lambda images: -embed(images),
        "cells": cells,
        "overview": lambda images: torch.nn.functional.interpolate(images, (64, 64)),
    }
    assert set(sights) == set(SEEN)
    return lambda images, wanted: {name: sights[name](images) for name in wanted}


@pytest.fixture(params=INFORMED)
def informed(request, tiny_networks):
    """Each kind of network that is told something."""
    return tiny_networks[request.param]


@pytest.fixture
def job(informed):
    return ExpertJob(
        key="e",
        backbone=informed,
        recipe=RECIPE,
        num_samples=60,
        seed=5,
        extractor="/store/extractor/x",
    )


@pytest.fixture
def patches(same_table, informed):
    return read_patches(*same_table, look=looking(informed.told_dim))


@pytest.fixture(autouse=True)
def _report_each_step(monkeypatch):
    monkeypatch.setattr("expertree.training.loop._SECONDS_BETWEEN_REPORTS", 0.0)


def test_stopped_in_each_phase_and_resumed_equals_undisturbed_to_the_bit(
    job, patches, undisturbed, tmp_path
):
    """Statistics of the network's own included, which lie in its weights' file."""
    directory = Storage.open(tmp_path / "stopped")
    for stop in (8, 14, 30, 51):
        with pytest.raises(StoppedError):
            train_expert(job, patches=patches, directory=directory, on_progress=stop_after(stop))
    train_expert(job, patches=patches, directory=directory)
    assert weights(directory) == weights(undisturbed(job, patches.look))


def test_an_expert_that_is_told_learns_otherwise_and_its_card_says_by_what(
    job, patches, undisturbed
):
    untold = dataclasses.replace(job, extractor=None)
    told, alone = undisturbed(job, patches.look), undisturbed(untold)
    assert weights(told) != weights(alone)
    assert read_card(told).extractor == "x"
    assert read_card(alone).extractor is None
    assert job.fingerprint != untold.fingerprint


def test_a_job_with_an_extractor_needs_one_who_looks(job, same_table, tmp_path):
    unseeing, directory = read_patches(*same_table), Storage.open(tmp_path / "e")
    with pytest.raises(TrainingError, match="is told what /store/extractor/x sees"):
        train_expert(job, patches=unseeing, directory=directory)


def noting(seen):
    """Return a callback that keeps the weights of each checkpoint, by samples."""

    def note(samples, network):
        seen[samples] = {n: p.detach().clone() for n, p in network.named_parameters()}

    return note


def test_what_stands_still_in_a_phase_keeps_its_values_to_the_bit(job, patches, tmp_path):
    seen = {}

    def learner_at(num_samples):
        directory = Storage.open(tmp_path / str(num_samples))
        train_expert(
            dataclasses.replace(job, recipe=dataclasses.replace(RECIPE, ema_decay=0.0)),
            patches=patches,
            directory=directory,
            hooks=Hooks(on_checkpoint=noting(seen)),
        )

    learner_at(60)
    for number, phase in enumerate(phases_of(job.backbone)):
        inside = [s for s in sorted(seen) if s < 60 and phase_at(job, s)[0] == number]
        if len(inside) < 2:
            continue
        first, last = seen[inside[0]], seen[inside[-1]]
        for name, value in first.items():
            if phase.still and name.startswith(phase.still):
                assert torch.equal(value, last[name]), name
        assert any(not torch.equal(value, last[name]) for name, value in first.items())


def test_each_phase_warms_up_and_cools_down(job):
    phases = phases_of(job.backbone)
    ends = [math.ceil(phase.until * 60) for phase in phases]
    assert ends[-1] == 60
    for number, end in enumerate(ends):
        begin = ends[number - 1] if number else 0
        assert phase_at(job, begin) == phase_at(job, end - 1) == (number, range(begin, end))


@pytest.mark.parametrize("name", ["airnet_small", "lora_ir_small", "sler_ir_small"])
@pytest.mark.parametrize("num_samples", [480, 3720])
def test_the_rate_reaches_its_top_in_each_phase_and_falls_again(name, num_samples):
    recipe = RecipeConfig()
    job = ExpertJob(
        key="e", backbone=backbone_config(name), recipe=recipe, num_samples=num_samples, seed=0
    )
    shares = {}
    for seen in range(0, num_samples, recipe.batch_size):
        shares.setdefault(phase_at(job, seen)[0], []).append(rate_share_of(job, seen))
    assert len(shares) == len(phases_of(job.backbone))
    for own in shares.values():
        top = own.index(max(own))
        assert own[top] > 0.95
        assert own[:top] == sorted(own[:top])
        assert own[top:] == sorted(own[top:], reverse=True)
        assert own[-1] < 0.15


def test_networks_without_phases_warm_up_as_the_recipe_says():
    recipe = RecipeConfig()
    plain = ExpertJob(key="e", backbone=NAFNetConfig(), recipe=recipe, num_samples=300, seed=0)
    for seen in range(0, 300, recipe.batch_size):
        assert rate_share_of(plain, seen) == rate_share_at(recipe, seen, 300)


def test_a_phase_has_a_rate_of_its_own(job, patches, tmp_path, monkeypatch):
    spec, seen = BACKBONES[job.backbone.name], {}
    phases = (*spec.phases[:-1], dataclasses.replace(spec.phases[-1], rate=0.0))
    monkeypatch.setitem(BACKBONES, job.backbone.name, dataclasses.replace(spec, phases=phases))
    train_expert(
        dataclasses.replace(job, recipe=dataclasses.replace(RECIPE, ema_decay=0.0)),
        patches=patches,
        directory=Storage.open(tmp_path),
        hooks=Hooks(on_checkpoint=noting(seen)),
    )
    last = [s for s in sorted(seen) if phase_at(job, s - 1)[0] == len(phases) - 1]
    assert len(last) > 1
    for name, value in seen[last[0]].items():
        assert torch.equal(value, seen[last[-1]][name]), name


def test_an_adapter_trains_in_the_last_phase_alone(job):
    if not BACKBONES[job.backbone.name].adaptable:
        pytest.skip("it has low-rank experts of its own")
    adapter = dataclasses.replace(job, init="/store/expert/r", adapter=AdapterConfig())
    assert phase_at(adapter, 0) == (len(phases_of(job.backbone)) - 1, range(60))


def test_networks_without_phases_have_one():
    plain = ExpertJob(key="e", backbone=NAFNetConfig(), recipe=RECIPE, num_samples=60, seed=5)
    assert phase_at(plain, 0) == phase_at(plain, 59) == (0, range(60))


def test_a_told_network_is_called_with_images_alone(informed, patches):
    torch.manual_seed(0)
    network = build_backbone(informed).eval()
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.2)
    look = looking(informed.told_dim)
    told = Told(network, informed, look).eval()
    images = torch.rand(2, 3, 24, 24)
    with torch.inference_mode():
        expected = network(images, tell(informed, images, look=look))
        assert torch.equal(told(images), expected)
        assert not torch.equal(network(images), expected)
    assert set(score_expert(told, patches)) == {"l1", "psnr_rgb", "psnr_y", "ssim"}


def test_what_is_told_travels_with_its_rows_and_pieces(job, patches):
    learner = ExpertLearner(
        job, device=torch.device("cpu"), workers=ALONE, on_note=print, look=patches.look
    )
    batch = learner._informed(draw_batch(patches, range(4), patch_px=16, augment=True, seed=0))
    part = batch.rows(slice(1, 3))
    for name, value in batch.condition.items():
        assert torch.equal(part.condition[name], value[1:3])
    assert set(job.backbone.seen) <= set(batch.condition)


def test_a_window_is_where_a_tile_lies():
    window = window_of(slice(16, 48), slice(0, 32), 64, 128)
    assert window.tolist() == [[0.25, 0.0, 0.75, 0.25]]
    assert WINDOW not in SEEN


def test_networks_that_take_no_sentences_are_told_none():
    plain = NAFNetConfig()
    assert not saying(plain, seed=0)([("noise",)], [0])
    assert not tell(plain, torch.rand(1, 3, 8, 8), look=looking(8), tasks=("noise",))


def test_there_are_forty_sentences_a_degradation_and_tests_have_words_of_their_own():
    for task in REGISTRY:
        train, unseen = sentences_for((task,)), sentences_for((task,), unseen=True)
        assert len(set(train)) == 40
        assert len(set(unseen)) == 10
        assert not set(train) & set(unseen)


def test_mixtures_are_named_clause_by_clause():
    assert sentence_of(("noise", "rain")) == "remove the noise and remove the rain"
    assert sentence_of(("vignette",)) == "remove the vignette"
    assert len(sentences_for(("noise", "rain"))) == 8 * 5 * 5


def test_hashed_sentences_have_length_1_and_share_what_they_share():
    first, near, far = hashed(["remove the noise", "please remove the noise", "brighten it"])
    assert first.shape == (HASHED_DIM,)
    assert first @ first == pytest.approx(1)
    assert first @ near > 0.7
    assert first @ far < 0.4
    assert not hashed([""]).any()
    assert load_encoder("hashing") is hashed


def test_words_of_tests_are_told_apart_by_sentences_of_training():
    """By the nearest mean of hashed sentences: little, but no chance."""
    means = torch.stack([torch.from_numpy(prototype("hashing", task)) for task in PHRASES])
    hits = [
        int((means @ torch.from_numpy(row)).argmax()) == place
        for place, task in enumerate(PHRASES)
        for row in hashed(sentences_for((task,), unseen=True))
    ]
    assert sum(hits) / len(hits) > 0.6
