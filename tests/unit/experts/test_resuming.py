"""An expert's training gives the same network however often it is interrupted."""

import dataclasses
import errno
import itertools
import os
import random

import numpy as np
import pytest

from expert_jobs import JOB, RECIPE, StoppedError, spoil_losses, stop_after, weights
from expertree.errors import ArtefactError, PausedError, StorageError
from expertree.experts.training import Part
from expertree.experts.weights import load_expert, read_card
from expertree.storage import Storage


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_stopped_and_resumed_equals_undisturbed_to_the_bit(train, undisturbed, seed, ema_decay):
    job = dataclasses.replace(JOB, recipe=dataclasses.replace(RECIPE, ema_decay=ema_decay))
    expected = undisturbed(job)
    stops = sorted(random.Random(seed).sample(range(1, 100), 3))
    for stop in stops:
        with pytest.raises(StoppedError):
            train("stopped", job, stop_after(stop))
    resumed, _ = train("stopped", job)
    assert weights(resumed) == weights(expected)
    assert resumed.read_json("log.json")["curve"] == expected.read_json("log.json")["curve"]


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
    train, undisturbed, tmp_path
):
    snapshots = [Storage.open(tmp_path / f"part-{n}") for n in range(2)]
    for num_samples, snapshot in zip((25, 50), snapshots, strict=True):
        directory, result = train("parts", part=Part(num_samples=num_samples, snapshot=snapshot))
        assert num_samples <= result.num_seen < num_samples + RECIPE.batch_size
        assert not directory.exists("expert.safetensors")
        assert weights(snapshot) != weights(undisturbed())
        load_expert(snapshot)
        assert read_card(snapshot).num_samples == result.num_seen
    assert weights(snapshots[0]) != weights(snapshots[1])
    whole, _ = train("parts")
    assert weights(whole) == weights(undisturbed())
    assert read_card(whole).num_samples == JOB.num_samples


def test_an_interruption_costs_at_most_one_interval(train):
    with pytest.raises(StoppedError):
        train("stopped", on_progress=stop_after(59))
    seen = []
    train("stopped", on_progress=lambda status: seen.append(status["samples"]))
    assert 59 - RECIPE.checkpoint_every_samples <= seen[0] <= 60


@pytest.mark.parametrize("damage", [b"", b"\x00" * 64, None])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    train, undisturbed, tmp_path, caplog, damage
):
    with pytest.raises(StoppedError):
        train("stopped", on_progress=stop_after(80))
    directory = Storage.open(tmp_path / "stopped")
    newest = directory.list_files("safetensors")[-1]
    whole = directory.read_bytes(newest)
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    directory.write_bytes(newest, flipped if damage is None else damage)
    seen = []
    resumed, _ = train("stopped", on_progress=lambda status: seen.append(status["samples"]))
    assert newest in caplog.text or newest.removesuffix(".safetensors") in caplog.text
    assert 50 < seen[0] < 80
    assert weights(resumed) == weights(undisturbed())


def test_all_checkpoints_damaged_starts_again(train, undisturbed, tmp_path):
    with pytest.raises(StoppedError):
        train("stopped", on_progress=stop_after(80))
    directory = Storage.open(tmp_path / "stopped")
    for name in directory.list_files("json"):
        directory.write_bytes(name, b"{}")
    resumed, _ = train("stopped")
    assert weights(resumed) == weights(undisturbed())


def test_a_full_disk_is_said_and_leaves_the_earlier_checkpoints(
    train, undisturbed, monkeypatch, tmp_path
):
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
    assert weights(resumed) == weights(undisturbed())


@pytest.mark.parametrize("stop", [1, 31, 99])
def test_a_pause_leaves_a_checkpoint_and_repeats_nothing(train, undisturbed, stop):
    seen = []

    def leave(status):
        if status["samples"] >= stop:
            seen.append(status["samples"])
            raise PausedError("the node goes away")

    with pytest.raises(PausedError):
        train("paused", on_progress=leave)
    resumed, _ = train("paused", on_progress=lambda status: seen.append(status["samples"]))
    assert seen[1] - seen[0] <= RECIPE.batch_size
    assert weights(resumed) == weights(undisturbed())


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


def test_a_store_that_is_reached_otherwise_lets_an_expert_go_on(train, undisturbed, tmp_path):
    """What it starts from has the same name under the other path, as under another mount."""
    parent = Storage.open(undisturbed().uri)
    (tmp_path / "other").symlink_to(parent.above().path())
    elsewhere = Storage.open(tmp_path / "other").sub(parent.name)
    expected, _ = train("undisturbed", dataclasses.replace(JOB, init=parent.uri))
    with pytest.raises(StoppedError):
        train("moved", dataclasses.replace(JOB, init=parent.uri), stop_after(50))
    seen = []
    moved = dataclasses.replace(JOB, init=elsewhere.uri)
    resumed, _ = train("moved", moved, lambda status: seen.append(status["samples"]))
    assert seen[0] > 40
    assert weights(resumed) == weights(expected)
    with pytest.raises(StoppedError):
        train("again", moved, stop_after(50))
    with pytest.raises(ArtefactError, match="another job"):
        train("again", dataclasses.replace(moved, init=str(tmp_path / "undisturbed")))


def test_a_checkpoint_that_names_whole_addresses_is_gone_on_from(train, undisturbed, monkeypatch):
    """As they were written before stores were known by names alone."""
    job = dataclasses.replace(JOB, init=undisturbed().uri)
    (earlier,) = job.earlier_fingerprints
    assert earlier != job.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(type(job), "fingerprint", earlier)
        with pytest.raises(StoppedError):
            train("earlier", job, stop_after(50))
    seen = []
    train("earlier", job, lambda status: seen.append(status["samples"]))
    assert seen[0] > 40


def test_half_the_rate_survives_a_kill(train, monkeypatch):
    spoil_losses(monkeypatch, 7)
    with pytest.raises(StoppedError):
        train("stopped", on_progress=stop_after(60))
    directory, _ = train("stopped")
    assert len(directory.read_json("log.json")["notes"]) == 1


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
