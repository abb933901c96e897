"""An expert's training gives the same network however often it is interrupted."""

import dataclasses
import errno
import itertools
import os
import random

import numpy as np
import pytest
import torch

from expertree.errors import ArtefactError, PausedError, StorageError, TrainingError
from expertree.experts.backbones import BACKBONES, build_backbone, start_at_identity
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.losses import LOSSES
from expertree.experts.patches import read_patches
from expertree.experts.published import PublishedWeights, find_published
from expertree.experts.recipe import ExpertJob, PatchStage, RecipeConfig
from expertree.experts.sampling import draw_batch
from expertree.experts.scoring import score_expert, score_inputs
from expertree.experts.training import Part, train_expert
from expertree.experts.weights import load_expert, read_card
from expertree.storage import Storage

RECIPE = RecipeConfig(
    batch_size=3,
    patch_px=16,
    fresh=False,
    loss="l1",
    start="random",
    optimizer="adamw",
    learning_rate=1e-3,
    warmup_samples=12,
    ema_decay=0.9,
    weight_decay=1e-2,
    checkpoint_every_samples=10,
)
JOB = ExpertJob(
    key="e0",
    backbone=NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)),
    recipe=RECIPE,
    num_samples=100,
    seed=5,
)


class StoppedError(Exception):
    """Stands for a kill."""


@pytest.fixture
def patches(storage, files):
    return read_patches(storage, files)


@pytest.fixture
def train(tmp_path, patches):
    """Train into a directory of that name; a report after each step, not after each second."""

    def run(name, job=JOB, on_progress=None, part=None):
        directory = Storage.open(tmp_path / name)
        result = train_expert(
            job, patches=patches, directory=directory, on_progress=on_progress, part=part
        )
        return directory, result

    return run


@pytest.fixture(autouse=True)
def _report_each_step(monkeypatch):
    monkeypatch.setattr("expertree.training.loop._SECONDS_BETWEEN_REPORTS", 0.0)


def stop_after(num_samples):
    def on_progress(status):
        if status["samples"] >= num_samples:
            raise StoppedError

    return on_progress


def weights(directory):
    return directory.read_bytes("expert.safetensors")


def test_the_same_job_gives_the_same_bytes(train):
    (first, one), (second, two) = train("a"), train("b")
    assert weights(first) == weights(second)
    assert first.read_bytes("expert.json") == second.read_bytes("expert.json")
    assert first.read_json("log.json")["curve"] == second.read_json("log.json")["curve"]
    assert one.curve == two.curve


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_stopped_and_resumed_equals_undisturbed_to_the_bit(train, seed, ema_decay):
    job = dataclasses.replace(JOB, recipe=dataclasses.replace(RECIPE, ema_decay=ema_decay))
    undisturbed, _ = train("undisturbed", job)
    stops = sorted(random.Random(seed).sample(range(1, 100), 3))
    for stop in stops:
        with pytest.raises(StoppedError):
            train("stopped", job, stop_after(stop))
    resumed, _ = train("stopped", job)
    assert weights(resumed) == weights(undisturbed)
    assert resumed.read_json("log.json")["curve"] == undisturbed.read_json("log.json")["curve"]


@pytest.mark.parametrize("name", ["moce_ir", "airnet"])
def test_what_a_network_draws_and_keeps_beside_its_weights_resumes_to_the_bit(
    train, tiny_networks, name
):
    """Noise of choices; phases, statistics of batches, the queue and the slow copy."""
    job = dataclasses.replace(JOB, backbone=tiny_networks[name], num_samples=60)
    undisturbed, _ = train("undisturbed", job)
    for stop in (3, 6, 13, 40):
        with pytest.raises(StoppedError):
            train("stopped", job, stop_after(stop))
    resumed, _ = train("stopped", job)
    assert weights(resumed) == weights(undisturbed)
    assert resumed.read_json("log.json")["curve"] == undisturbed.read_json("log.json")["curve"]


def test_trained_in_parts_equals_undisturbed_to_the_bit_and_each_part_leaves_an_expert(
    train, tmp_path
):
    undisturbed, _ = train("undisturbed")
    snapshots = [Storage.open(tmp_path / f"part-{n}") for n in range(2)]
    for num_samples, snapshot in zip((25, 50), snapshots, strict=True):
        directory, result = train("parts", part=Part(num_samples=num_samples, snapshot=snapshot))
        assert num_samples <= result.num_seen < num_samples + RECIPE.batch_size
        assert not directory.exists("expert.safetensors")
        assert weights(snapshot) != weights(undisturbed)
        load_expert(snapshot)
        assert read_card(snapshot).num_samples == result.num_seen
    assert weights(snapshots[0]) != weights(snapshots[1])
    whole, _ = train("parts")
    assert weights(whole) == weights(undisturbed)
    assert read_card(whole).num_samples == JOB.num_samples


def test_an_interruption_costs_at_most_one_interval(train):
    with pytest.raises(StoppedError):
        train("stopped", on_progress=stop_after(59))
    seen = []
    train("stopped", on_progress=lambda status: seen.append(status["samples"]))
    assert 59 - RECIPE.checkpoint_every_samples <= seen[0] <= 60


@pytest.mark.parametrize("damage", [b"", b"\x00" * 64, None])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(train, caplog, damage):
    undisturbed, _ = train("undisturbed")
    with pytest.raises(StoppedError):
        train("stopped", on_progress=stop_after(80))
    directory = Storage.open(undisturbed.uri.replace("undisturbed", "stopped"))
    newest = directory.list_files("safetensors")[-1]
    whole = directory.read_bytes(newest)
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    directory.write_bytes(newest, flipped if damage is None else damage)
    seen = []
    resumed, _ = train("stopped", on_progress=lambda status: seen.append(status["samples"]))
    assert newest in caplog.text or newest.removesuffix(".safetensors") in caplog.text
    assert 50 < seen[0] < 80
    assert weights(resumed) == weights(undisturbed)


def test_all_checkpoints_damaged_starts_again(train):
    undisturbed, _ = train("undisturbed")
    with pytest.raises(StoppedError):
        train("stopped", on_progress=stop_after(80))
    directory = Storage.open(undisturbed.uri.replace("undisturbed", "stopped"))
    for name in directory.list_files("json"):
        directory.write_bytes(name, b"{}")
    resumed, _ = train("stopped")
    assert weights(resumed) == weights(undisturbed)


def test_a_full_disk_is_said_and_leaves_the_earlier_checkpoints(train, monkeypatch, tmp_path):
    undisturbed, _ = train("undisturbed")
    calls, fsync = itertools.count(1), os.fsync

    def full_disk(descriptor):
        if next(calls) == 5:  # the tensors of the third checkpoint; each has two files
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_disk)
        with pytest.raises(StorageError, match=r"after-000000000030.* cannot be written.*No space"):
            train("stopped")
    left = Storage.open(tmp_path / "stopped").list_files(".json")
    assert left == ["checkpoints/after-000000000012.json", "checkpoints/after-000000000021.json"]
    assert not list(tmp_path.rglob(".partial-*"))
    seen = []
    resumed, _ = train("stopped", on_progress=lambda status: seen.append(status["samples"]))
    assert seen[0] > 20
    assert weights(resumed) == weights(undisturbed)


@pytest.mark.parametrize("stop", [1, 31, 99])
def test_a_pause_leaves_a_checkpoint_and_repeats_nothing(train, stop):
    undisturbed, _ = train("undisturbed")
    seen = []

    def leave(status):
        if status["samples"] >= stop:
            seen.append(status["samples"])
            raise PausedError("the node goes away")

    with pytest.raises(PausedError):
        train("paused", on_progress=leave)
    resumed, _ = train("paused", on_progress=lambda status: seen.append(status["samples"]))
    assert seen[1] - seen[0] <= RECIPE.batch_size
    assert weights(resumed) == weights(undisturbed)


def test_a_pause_where_the_loss_is_not_finite_keeps_the_checkpoint_before(train, monkeypatch):
    spoil_losses(monkeypatch, 7)

    def leave(status):
        if not np.isfinite(status["loss"]):
            raise PausedError("the node goes away")

    wide = dataclasses.replace(JOB, num_samples=10_000)  # points of the curve are 100 apart
    with pytest.raises(PausedError):
        train("paused", wide, leave)
    seen = []

    def stop(status):
        seen.append(status["samples"])
        raise StoppedError

    with pytest.raises(StoppedError):
        train("paused", wide, stop)
    assert seen == [24]


def test_memory_that_runs_out_halves_the_pieces_and_says_so(train, monkeypatch):
    undisturbed, _ = train("undisturbed")
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
    expected = load_expert(undisturbed).state_dict()
    for name, value in load_expert(directory).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def test_old_checkpoints_are_pruned_and_none_is_left_at_the_end(train, tmp_path):
    directory, held = Storage.open(tmp_path / "watched"), []
    train("watched", on_progress=lambda _: held.append(len(directory.list_files("safetensors"))))
    assert max(held) == 2
    assert directory.list_files() == ["expert.json", "expert.safetensors", "log.json"]


def test_checkpoints_of_another_job_are_refused(train):
    with pytest.raises(StoppedError):
        train("shared", on_progress=stop_after(50))
    with pytest.raises(ArtefactError, match="another job"):
        train("shared", dataclasses.replace(JOB, seed=6))


def test_a_loss_that_is_not_finite_is_an_error_and_is_not_kept(train, tmp_path):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, grad_clip=0.0, warmup_samples=0)
    with pytest.raises(TrainingError, match="learning_rate"):
        train("nan", dataclasses.replace(JOB, recipe=recipe))
    assert not Storage.open(tmp_path / "nan").list_files("safetensors")


def spoil_losses(monkeypatch, *calls):
    """Let the loss be NaN at some calls, counted over all steps of the test."""
    count = itertools.count()

    def l1(restored, clean):
        return (restored - clean).abs().mean() * (float("nan") if next(count) in calls else 1.0)

    monkeypatch.setitem(LOSSES, "l1", l1)


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


def test_half_the_rate_survives_a_kill(train, monkeypatch):
    spoil_losses(monkeypatch, 7)
    with pytest.raises(StoppedError):
        train("stopped", on_progress=stop_after(60))
    directory, _ = train("stopped")
    assert len(directory.read_json("log.json")["notes"]) == 1


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


def test_little_memory_gives_the_same_network_but_for_rounding(train):
    undisturbed, _ = train("undisturbed")
    recipe = dataclasses.replace(RECIPE, micro_batch_size=1)
    directory, _ = train("pieces", dataclasses.replace(JOB, recipe=recipe))
    expected = load_expert(undisturbed).state_dict()
    for name, value in load_expert(directory).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def test_the_log_tells_how_long_steps_waited_for_data(train):
    directory, _ = train("waits")
    assert 0.0 <= directory.read_json("log.json")["waited_share"] < 1.0


def test_training_improves_on_the_input(train, patches):
    recipe = dataclasses.replace(RECIPE, batch_size=4, learning_rate=3e-3, ema_decay=0.0)
    directory, _ = train("good", dataclasses.replace(JOB, recipe=recipe, num_samples=400))
    before, after = score_inputs(patches), score_expert(load_expert(directory), patches)
    assert after["psnr_rgb"].mean() > before["psnr_rgb"].mean() + 3


def test_warm_start_begins_at_the_parents_weights(train):
    parent, _ = train("parent")
    tiny = dataclasses.replace(RECIPE, learning_rate=1e-12, ema_decay=0.0, weight_decay=0.0)
    child_job = dataclasses.replace(JOB, recipe=tiny, num_samples=3, init=parent.uri)
    child, _ = train("child", child_job)
    theirs = load_expert(parent).state_dict()
    for name, value in load_expert(child).state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-7)


def test_warm_start_from_another_backbone_is_refused(train):
    parent, _ = train("parent")
    other = dataclasses.replace(JOB.backbone, width=6)
    with pytest.raises(ArtefactError, match="another backbone"):
        train("child", dataclasses.replace(JOB, backbone=other, init=parent.uri))


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


def test_what_is_degraded_anew_resumes_to_the_bit(train):
    recipe = dataclasses.replace(RECIPE, fresh=True, optimizer="muon")
    job = dataclasses.replace(JOB, recipe=recipe)
    undisturbed, _ = train("undisturbed", job)
    for stop in (31, 58):
        with pytest.raises(StoppedError):
            train("stopped", job, stop_after(stop))
    resumed, _ = train("stopped", job)
    assert weights(resumed) == weights(undisturbed)
    stored, _ = train("stored", dataclasses.replace(JOB, recipe=RECIPE))
    assert weights(stored) != weights(undisturbed)
