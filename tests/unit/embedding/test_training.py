import dataclasses
import itertools

import pytest
import torch

from expertree.embedding import (
    ClipConfig,
    ExtractorConfig,
    ExtractorRecipe,
    degree_accuracy,
    load_extractor,
    train_extractor,
)
from expertree.embedding.heads import HEADS
from expertree.errors import ArtefactError, PausedError, TrainingError
from expertree.storage import Storage

RECIPE = ExtractorRecipe(
    num_steps=12,
    batch_size=8,
    crop_px=24,
    learning_rate=3e-3,
    checkpoint_every_steps=4,
    num_threads=1,
)
CONFIG = ExtractorConfig(
    clip=ClipConfig(image_tower="test_resnet"), embed_dim=16, view_px=32, recipe=RECIPE
)
CAPTIONS = ["heavy low-light", "large noise", "thick haze"] * 8


class MadePatches:
    """Dark, noisy and pale patches."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(24, 3, 1, 1, generator=generator).expand(-1, -1, 32, 32).clone()
        images[0::3] *= 0.2
        images[1::3] += 0.3 * torch.randn(8, 3, 32, 32, generator=generator)
        images[2::3] = 0.8 + 0.2 * images[2::3]
        self.images = images.clamp(0, 1).mul(255).to(torch.uint8)
        self.num_calls = 0

    def __len__(self) -> int:
        return len(self.images)

    def lq(self, indices) -> torch.Tensor:
        self.num_calls += 1
        return self.images[list(indices)]


class DyingPatches(MadePatches):
    """Kills the training after some batches, as a lost machine would."""

    def __init__(self, num_batches: int) -> None:
        super().__init__()
        self.num_left = num_batches

    def lq(self, indices) -> torch.Tensor:
        if self.num_left == 0:
            raise KeyboardInterrupt
        self.num_left -= 1
        return super().lq(indices)


def train(directory, patches=None, config=CONFIG, **options):
    return train_extractor(
        config, patches or MadePatches(), CAPTIONS, directory=directory, seed=0, **options
    )


def losses_of(directory) -> list[float]:
    return directory.read_json("log.json")["curve"]["loss"]


def check_equal(one, other) -> None:
    """To the bit, but for the seconds in the log."""
    assert one.list_files() == other.list_files()
    for name in set(other.list_files()) - {"log.json"}:
        assert one.read_bytes(name) == other.read_bytes(name)
    assert losses_of(one) == losses_of(other)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Storage:
    directory = Storage.open(tmp_path_factory.mktemp("undisturbed"))
    train(directory)
    return directory


def test_the_result_is_complete_and_leaves_no_checkpoints(undisturbed):
    names = ["captions.safetensors", "extractor.json", "extractor.safetensors", "log.json"]
    assert undisturbed.list_files() == names
    log = undisturbed.read_json("log.json")
    assert log["curve"]["samples"] == [8 * (step + 1) for step in range(12)]
    assert log["notes"] == []
    losses = log["curve"]["loss"]
    assert losses[-1] < losses[0]


def test_training_twice_gives_the_same_bytes(undisturbed, tmp_path):
    again = Storage.open(tmp_path)
    train(again)
    check_equal(again, undisturbed)


@pytest.mark.parametrize("num_batches", [2, 6, 9])
def test_a_killed_training_goes_on_to_the_same_bytes(undisturbed, tmp_path, num_batches):
    directory = Storage.open(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(directory, DyingPatches(num_batches))
    patches = MadePatches()
    train(directory, patches)
    assert patches.num_calls == 12 - num_batches // 4 * 4
    check_equal(directory, undisturbed)


def test_a_paused_training_leaves_a_checkpoint_and_repeats_nothing(
    undisturbed, tmp_path, monkeypatch
):
    def leave(status):
        if status["samples"] >= 6 * RECIPE.batch_size:
            raise PausedError("the node goes away")

    monkeypatch.setattr("expertree.training.loop._SECONDS_BETWEEN_REPORTS", 0.0)
    directory, patches = Storage.open(tmp_path), MadePatches()
    with pytest.raises(PausedError):
        train(directory, on_progress=leave)
    train(directory, patches)
    assert patches.num_calls == 6
    check_equal(directory, undisturbed)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(undisturbed, tmp_path):
    directory = Storage.open(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(directory, DyingPatches(9))
    directory.write_bytes("checkpoints/after-000000000064.safetensors", b"damaged")
    patches = MadePatches()
    train(directory, patches)
    assert patches.num_calls == 12 - 4
    assert directory.read_bytes("extractor.safetensors") == undisturbed.read_bytes(
        "extractor.safetensors"
    )


def test_checkpoints_of_another_recipe_are_refused(tmp_path):
    directory = Storage.open(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(directory, DyingPatches(9))
    recipe = dataclasses.replace(RECIPE, learning_rate=1e-3)
    with pytest.raises(ArtefactError, match="another job"):
        train(directory, config=dataclasses.replace(CONFIG, recipe=recipe))


def test_checkpoints_in_the_form_of_before_are_told_of_and_not_used(undisturbed, tmp_path, caplog):
    directory = Storage.open(tmp_path)
    old = directory.sub("checkpoints", "00000008")
    old.write_bytes("tensors.safetensors", b"of another form")
    old.write_json("progress.json", [1.0] * 8)
    old.commit({"key": "k", "step": 8})
    patches = MadePatches()
    train(directory, patches)
    assert patches.num_calls == 12
    assert "00000008" in caplog.text
    check_equal(directory, undisturbed)


def test_degrees_that_are_easy_to_see_are_learnt(tmp_path):
    recipe = dataclasses.replace(RECIPE, num_steps=60)
    directory = Storage.open(tmp_path)
    extractor = train(directory, config=dataclasses.replace(CONFIG, recipe=recipe))
    patches = MadePatches()
    assert degree_accuracy(extractor, patches, CAPTIONS) > 0.9
    loaded = load_extractor(directory, captions=True)
    assert degree_accuracy(loaded, patches, CAPTIONS) > 0.9


@pytest.mark.parametrize(
    "change",
    [{"head": "spherical"}, {"head": "type"}, {"view": "sliding", "view_px": 24}],
    ids=["spherical", "type", "sliding"],
)
def test_every_head_and_the_sliding_view_learn(tmp_path, change):
    directory = Storage.open(tmp_path)
    train(directory, config=dataclasses.replace(CONFIG, **change))
    losses = losses_of(directory)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_bfloat16_starts_at_almost_the_same_loss(undisturbed, tmp_path):
    recipe = dataclasses.replace(RECIPE, num_steps=1, precision="bfloat16")
    train(Storage.open(tmp_path), config=dataclasses.replace(CONFIG, recipe=recipe))
    (found,) = losses_of(Storage.open(tmp_path))
    expected = losses_of(undisturbed)[0]
    assert found != expected
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("is_fast", [True, False])
def test_the_format_is_bfloat16_where_the_processor_multiplies_it_fast(
    undisturbed, tmp_path, monkeypatch, is_fast
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": is_fast})
    recipe = dataclasses.replace(RECIPE, precision="auto")
    train(Storage.open(tmp_path), config=dataclasses.replace(CONFIG, recipe=recipe))
    log = Storage.open(tmp_path).read_json("log.json")
    assert log["precision"] == ("bfloat16" if is_fast else "float32")
    assert (losses_of(Storage.open(tmp_path)) == losses_of(undisturbed)) is not is_fast


def test_progress_counts_samples_and_can_stop_the_training(tmp_path):
    reports = []
    train(Storage.open(tmp_path), on_progress=reports.append)
    assert reports[-1]["samples"] == reports[-1]["num_samples"] == 12 * 8
    assert {"loss", "samples_per_s", "learning_rate", "notes"} < set(reports[-1])

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Storage.open(tmp_path / "stopped"), on_progress=stop)


def test_the_number_of_threads_is_put_back(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt):
        train(Storage.open(tmp_path), DyingPatches(0))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_loss_that_is_not_finite_at_half_the_rate_too_stops_the_training(tmp_path):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, warmup_fraction=0.0)
    with pytest.raises(TrainingError, match=r"the extractor: .*not finite.*learning_rate=1e\+30"):
        train(Storage.open(tmp_path), config=dataclasses.replace(CONFIG, recipe=recipe))


def test_after_a_loss_that_is_not_finite_it_goes_on_at_half_the_rate(tmp_path, monkeypatch):
    calls, loss = itertools.count(), HEADS["linear"].loss

    def spoilt(*arguments):
        return loss(*arguments) * (float("nan") if next(calls) == 6 else 1.0)

    head = dataclasses.replace(HEADS["linear"], loss=spoilt)
    monkeypatch.setitem(HEADS, "linear", head)
    directory = Storage.open(tmp_path)
    train(directory)
    (note,) = directory.read_json("log.json")["notes"]
    assert "not finite after 56 samples; went on from 32" in note
    assert len(losses_of(directory)) == 12


def test_captions_must_match_the_patches_and_differ(tmp_path):
    directory = Storage.open(tmp_path)
    with pytest.raises(ValueError, match="24 patches cannot be trained with 1 captions"):
        train_extractor(CONFIG, MadePatches(), ["a"], directory=directory, seed=0)
    with pytest.raises(TrainingError, match="all 24 captions are equal"):
        train_extractor(CONFIG, MadePatches(), ["a"] * 24, directory=directory, seed=0)
