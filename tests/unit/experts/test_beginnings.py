"""Where a training begins: at the identity, at random, at a parent, at published weights."""

import dataclasses

import numpy as np
import pytest
import torch

from expert_jobs import JOB, RECIPE
from expertree.errors import ArtefactError
from expertree.experts.backbones import (
    BACKBONES,
    build_backbone,
    phases_of,
    start_at_identity,
)
from expertree.experts.phases import phase_at, rate_share_of
from expertree.experts.published import PublishedWeights, find_published
from expertree.experts.recipe import ExpertJob, rate_share_at
from expertree.experts.scoring import score_expert, score_inputs
from expertree.experts.weights import load_expert


def test_warm_start_begins_at_the_parents_weights(train, undisturbed):
    tiny = dataclasses.replace(RECIPE, learning_rate=1e-12, ema_decay=0.0, weight_decay=0.0)
    child_job = dataclasses.replace(JOB, recipe=tiny, num_samples=3, init=undisturbed().uri)
    child, _ = train("child", child_job)
    theirs = load_expert(undisturbed()).state_dict()
    for name, value in load_expert(child).state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-7)


def test_warm_start_from_another_backbone_is_refused(train, undisturbed):
    other = dataclasses.replace(JOB.backbone, width=6)
    with pytest.raises(ArtefactError, match="another backbone"):
        train("child", dataclasses.replace(JOB, backbone=other, init=undisturbed().uri))


def test_a_training_begins_at_published_weights(train, tmp_path):
    torch.manual_seed(1)
    weights = build_backbone(JOB.backbone).state_dict()
    torch.save({"params": weights}, tmp_path / "public.pth")
    tiny = dataclasses.replace(RECIPE, learning_rate=1e-12, ema_decay=0.0, weight_decay=0.0)
    published = find_published(str(tmp_path / "public.pth"))
    job = dataclasses.replace(JOB, recipe=tiny, num_samples=3, published=published)
    directory, _ = train("public", job)
    for name, value in load_expert(directory).state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-7)


def test_a_training_has_one_beginning(tmp_path):
    published = PublishedWeights(uri=str(tmp_path / "a.pth"), sha256="")
    with pytest.raises(ValueError, match="cannot start from"):
        dataclasses.replace(JOB, init="parent", published=published)


def test_a_network_with_fresh_weights_starts_at_the_identity(tiny):
    network = build_backbone(tiny)
    start_at_identity(network, tiny)
    if tiny.name == "airnet":  # it gives an image of its own, not one added to its input
        assert BACKBONES["airnet"].last == ()
        return
    image = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        assert torch.equal(network(image), image)
    network(image).square().sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    moved = [name for name, gradient in gradients.items() if gradient.abs().max() > 0]
    assert moved


def test_training_starts_at_the_identity_unless_told_otherwise(train, patches):
    still = dataclasses.replace(RECIPE, learning_rate=1e-30, weight_decay=0.0)
    for start, is_input in (("identity", True), ("random", False)):
        recipe = dataclasses.replace(still, start=start)
        directory, _ = train(start, dataclasses.replace(JOB, recipe=recipe, num_samples=3))
        restored, degraded = score_expert(load_expert(directory), patches), score_inputs(patches)
        assert np.allclose(restored["psnr_rgb"], degraded["psnr_rgb"], atol=1e-3) == is_input


def last_phase(network):
    return ExpertJob(key="c", backbone=network, recipe=RECIPE, num_samples=30, seed=5, init="/e/p")


def test_what_starts_from_another_expert_trains_in_the_last_phase_alone(tiny):
    child, number = last_phase(tiny), len(phases_of(tiny)) - 1
    assert phase_at(child, 0) == phase_at(child, 29) == (number, range(30))
    assert rate_share_of(child, 3) == rate_share_at(RECIPE, 3, 30)
    assert phase_at(dataclasses.replace(child, init=None), 0)[0] == 0


def test_a_child_keeps_what_stands_still_in_the_last_phase(tiny, train):
    parent_job = dataclasses.replace(last_phase(tiny), init=None)
    parent, _ = train("parent", parent_job)
    child, _ = train("child", dataclasses.replace(last_phase(tiny), init=parent.uri))
    before, after = (load_expert(own).state_dict() for own in (parent, child))
    still = phases_of(tiny)[-1].still
    kept = {name for name in before if still and name.startswith(still)}
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_job_is_named_by_its_phases_where_it_skips_some(tiny, monkeypatch):
    child = last_phase(tiny)
    first = dataclasses.replace(child, init=None)
    found = [job.fingerprint for job in (child, first)]
    monkeypatch.setattr("expertree.experts.recipe.phased", lambda _: False)
    before = [job.fingerprint for job in (child, first)]
    assert [a == b for a, b in zip(found, before, strict=True)] == [
        len(phases_of(tiny)) == 1,
        True,
    ]
