"""An expert's training is the plain loop, in pieces of any size, and says what it did."""

import dataclasses

import numpy as np
import pytest
import torch

from expert_jobs import JOB, RECIPE, spoil_losses, weights
from expertree.errors import TrainingError
from expertree.experts.backbones import build_backbone
from expertree.experts.patches import read_patches
from expertree.experts.recipe import PatchStage
from expertree.experts.sampling import draw_batch
from expertree.experts.scoring import score_expert, score_inputs
from expertree.experts.training import train_expert
from expertree.experts.weights import load_expert
from expertree.storage import Storage


def test_the_same_job_gives_the_same_bytes(train):
    (first, one), (second, two) = train("a"), train("b")
    assert weights(first) == weights(second)
    assert first.read_bytes("expert.json") == second.read_bytes("expert.json")
    assert first.read_json("log.json")["curve"] == second.read_json("log.json")["curve"]
    assert one.curve == two.curve


def test_memory_that_runs_out_halves_the_pieces_and_says_so(train, undisturbed, monkeypatch):
    forward = torch.nn.functional.layer_norm

    def limited(x, *rest):
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x, *rest)

    monkeypatch.setattr(torch.nn.functional, "layer_norm", limited)
    directory, _ = train("little")
    assert directory.read_json("log.json")["notes"] == [
        "out of memory with 3 samples at once, so 1 at once now"
    ]
    expected = load_expert(undisturbed()).state_dict()
    for name, value in load_expert(directory).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_not_finite_is_an_error_and_is_not_kept(train, tmp_path):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, grad_clip=0.0, warmup_samples=0)
    with pytest.raises(TrainingError, match="learning_rate"):
        train("nan", dataclasses.replace(JOB, recipe=recipe))
    assert not Storage.open(tmp_path / "nan").list_files("safetensors")


def test_after_a_loss_that_is_not_finite_it_goes_on_at_half_the_rate(train, monkeypatch):
    spoil_losses(monkeypatch, 7)
    rates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self: (rates.append(self.param_groups[0]["lr"]), step(self)),
    )
    recipe = dataclasses.replace(RECIPE, warmup_samples=0, final_learning_rate_ratio=1.0)
    directory, result = train("once", dataclasses.replace(JOB, recipe=recipe))
    assert result.num_seen == 100
    assert np.isfinite(result.loss)
    (note,) = directory.read_json("log.json")["notes"]
    assert "not finite after 24 samples" in note
    assert "went on from 21" in note or "went on from 12" in note
    assert rates[0] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(5e-4)


def test_larger_patches_come_last(train, monkeypatch):
    drawn = []

    def watched(patches, positions, *, patch_px, **rest):
        drawn.append((positions[0], len(positions), patch_px))
        return draw_batch(patches, positions, patch_px=patch_px, **rest)

    monkeypatch.setattr("expertree.experts.training.draw_batch", watched)
    stage = PatchStage(from_fraction=0.5, patch_px=24, batch_size=2)
    recipe = dataclasses.replace(RECIPE, progressive=(stage,))
    train("progressive", dataclasses.replace(JOB, recipe=recipe))
    assert drawn == [(n, 3, 16) for n in range(0, 50, 3)] + [
        (n, min(2, 100 - n), 24) for n in range(51, 100, 2)
    ]


def test_little_memory_gives_the_same_network_but_for_rounding(train, undisturbed):
    recipe = dataclasses.replace(RECIPE, micro_batch_size=1)
    directory, _ = train("pieces", dataclasses.replace(JOB, recipe=recipe))
    expected = load_expert(undisturbed()).state_dict()
    for name, value in load_expert(directory).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def test_the_log_tells_how_long_steps_waited_for_data(undisturbed):
    assert 0.0 <= undisturbed().read_json("log.json")["waited_share"] < 1.0


def test_training_improves_on_the_input(train, patches):
    recipe = dataclasses.replace(RECIPE, batch_size=4, learning_rate=3e-3, ema_decay=0.0)
    directory, _ = train("good", dataclasses.replace(JOB, recipe=recipe, num_samples=400))
    before, after = score_inputs(patches), score_expert(load_expert(directory), patches)
    assert after["psnr_rgb"].mean() > before["psnr_rgb"].mean() + 3


def test_no_patches_is_an_error(tmp_path, storage):
    patches = read_patches(storage, [])
    with pytest.raises(TrainingError, match="no patches"):
        train_expert(JOB, patches=patches, directory=Storage.open(tmp_path / "none"))


def test_a_crop_larger_than_the_patches_is_an_error(train):
    recipe = dataclasses.replace(RECIPE, patch_px=32)
    with pytest.raises(ValueError, match="patch_px"):
        train("large", dataclasses.replace(JOB, recipe=recipe))


def test_progress_counts_up_to_the_whole(train):
    seen = []
    train("progress", on_progress=seen.append)
    assert [status["samples"] for status in seen] == [*range(3, 100, 3), 100]
    assert all(status["num_samples"] == 100 for status in seen)
    assert all(np.isfinite(status["loss"]) for status in seen)


def test_torchs_settings_are_left_as_they_were(train):
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    train("quiet")
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads


def plain_training(job, patches):
    """The loop as one would write it: no flat vector, no fused optimiser, no windows."""
    torch.manual_seed(job.seed)
    network = build_backbone(job.backbone)
    recipe = job.recipe
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    for start in range(0, job.num_samples, recipe.batch_size):
        share = (start / job.num_samples) * np.pi
        floor = recipe.final_learning_rate_ratio
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * (
            floor + (1 - floor) * (1 + np.cos(share)) / 2
        )
        batch = draw_batch(
            patches,
            range(start, min(start + recipe.batch_size, job.num_samples)),
            patch_px=recipe.patch_px,
            augment=True,
            seed=job.seed,
        )
        optimizer.zero_grad()
        (network(batch.lq) - batch.gt).abs().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.grad_clip)
        optimizer.step()
    return network


def test_the_loop_equals_a_plain_one(train, patches):
    recipe = dataclasses.replace(RECIPE, warmup_samples=0, ema_decay=0.0, grad_clip=0.05)
    job = dataclasses.replace(JOB, recipe=recipe, num_samples=30)
    directory, _ = train("ours", job)
    expected = plain_training(job, patches).state_dict()
    for name, value in load_expert(directory).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
