"""What trains on a lane is trained once, however its end is disturbed."""

from pathlib import Path
from typing import Any

import pytest

from expertree.embedding import ExtractorConfig
from expertree.embedding.clip import ClipConfig
from expertree.embedding.recipe import ExtractorRecipe
from expertree.errors import TransientStorageError
from expertree.experts.weights import load_expert
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.extractor_work import ExtractorWork
from expertree.scheduling.work import Work
from expertree.storage import Storage
from expertree.training import ALONE, loop
from lane_work import expert_work, fail_commits, write_patches


@pytest.fixture(autouse=True)
def _report_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", 0.0)


def extractor_work(folder: Path) -> ExtractorWork:
    table = Storage.open(folder / "table")
    write_patches(table)
    recipe = ExtractorRecipe(num_steps=4, batch_size=4, crop_px=16, checkpoint_every_steps=1)
    network = ClipConfig(image_tower="test_resnet")
    return ExtractorWork(
        config=ExtractorConfig(clip=network, embed_dim=16, view_px=16, recipe=recipe),
        table=table,
        directory=Storage.open(folder / "store").sub("extractor", "x"),
        spec={"key": "x"},
        seed=0,
        device="cpu",
    )


WORKS = {
    "expert": (expert_work, ["expert.json", "expert.safetensors", "log.json"]),
    "extractor": (
        extractor_work,
        ["captions.safetensors", "extractor.json", "extractor.safetensors", "log.json"],
    ),
}


@pytest.fixture(params=WORKS)
def work_and_names(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[ExpertWork | ExtractorWork, list[str]]:
    make, names = WORKS[request.param]
    return make(tmp_path), names


def samples_of(work: Work) -> list[int]:
    """Run some work; return the samples at each of its reports."""
    seen: list[Any] = []
    work.run(lambda progress: seen.append(progress["samples"]), ALONE)
    return seen


def test_a_result_whose_commit_fails_is_not_trained_again(
    work_and_names: tuple[ExpertWork | ExtractorWork, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, names = work_and_names
    with monkeypatch.context() as patch:
        fail_commits(patch)
        with pytest.raises(TransientStorageError):
            samples_of(work)
    assert samples_of(work) == []
    assert sorted(work.directory.done()["files"]) == names
    assert work.directory.list_files() == ["DONE.json", *names]
    work.directory.verify()


def test_checkpoints_that_a_done_result_has_left_are_deleted(
    work_and_names: tuple[ExpertWork | ExtractorWork, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, names = work_and_names

    def fail(*_: object) -> None:
        raise TransientStorageError("the bucket does not answer")

    with monkeypatch.context() as patch:
        patch.setattr("expertree.training.checkpoints.Checkpoints.clear", fail)
        with pytest.raises(TransientStorageError):
            samples_of(work)
    assert work.directory.is_done()
    assert any(name.startswith("checkpoints/") for name in work.directory.list_files())
    assert samples_of(work) == []
    assert work.directory.list_files() == ["DONE.json", *names]


def test_an_expert_that_is_committed_again_is_the_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, undisturbed = expert_work(tmp_path / "one"), expert_work(tmp_path / "two")
    with monkeypatch.context() as patch:
        fail_commits(patch)
        with pytest.raises(TransientStorageError):
            samples_of(work)
    samples_of(work)
    samples_of(undisturbed)
    load_expert(work.directory)
    name = "expert.safetensors"
    assert work.directory.read_bytes(name) == undisturbed.directory.read_bytes(name)
