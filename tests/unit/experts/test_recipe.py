"""What names a job, the rate as a function of samples seen, and values that cannot work."""

import dataclasses

import pytest

from expert_jobs import JOB
from expertree.experts.published import PublishedWeights
from expertree.experts.recipe import PatchStage, RecipeConfig, rate_share_at, sizes_at

RECIPE = RecipeConfig(batch_size=4, learning_rate=1.0, warmup_samples=16)


def test_rate_rises_linearly_then_falls_as_a_cosine():
    rates = [rate_share_at(RECIPE, n, 116) for n in range(0, 116, 4)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rate_share_at(RECIPE, 66, 116) == pytest.approx(0.5, abs=1e-3)
    assert rate_share_at(RECIPE, 116, 116) == pytest.approx(1e-3)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert rate_share_at(RecipeConfig(warmup_samples=0), 0, 100) == 1.0


def test_sizes_follow_the_parts_of_the_training():
    later = (
        PatchStage(from_fraction=0.5, patch_px=96, batch_size=4),
        PatchStage(from_fraction=0.9, patch_px=128, batch_size=2),
    )
    recipe = RecipeConfig(batch_size=8, patch_px=64, progressive=later)
    assert [sizes_at(recipe, n, 100) for n in (0, 49, 50, 89, 90)] == [
        (64, 8),
        (64, 8),
        (96, 4),
        (96, 4),
        (128, 2),
    ]
    assert recipe.largest_patch_px == 128
    assert RecipeConfig(patch_px=64).largest_patch_px == 64


@pytest.mark.parametrize(
    "values",
    [
        {"from_fraction": 0.0, "patch_px": 8, "batch_size": 1},
        {"patch_px": 0, "from_fraction": 0.5, "batch_size": 1},
        {"batch_size": 0, "from_fraction": 0.5, "patch_px": 8},
    ],
)
def test_a_part_that_cannot_be_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        PatchStage(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 0},
        {"patch_px": 0},
        {"checkpoint_every_samples": 0},
        {"num_threads": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"ema_decay": 1.0},
        {"micro_batch_size": 0},
        {"progressive": (PatchStage(from_fraction=0.5, patch_px=8, batch_size=1),) * 2},
    ],
)
def test_values_that_cannot_work_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        RecipeConfig(**values)


@pytest.mark.parametrize("field", ["init", "extractor", "published"])
def test_a_job_is_the_same_wherever_its_store_is_reached(field):
    def job(at, name="abc"):
        uri = f"{at}/expert/{name}"
        given = PublishedWeights(uri=uri, sha256=name) if field == "published" else uri
        return dataclasses.replace(JOB, **{field: given})

    places = ("/store", "/mnt/store", "s3://KEY:OLD@bucket", "s3://KEY:NEW@bucket")
    assert len({job(at).fingerprint for at in places}) == 1
    assert len({job("/store", name).fingerprint for name in ("abc", "abd")}) == 2
    assert JOB.fingerprint != job("/store").fingerprint
    assert JOB.earlier_fingerprints == {JOB.fingerprint}
