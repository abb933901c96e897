"""A small training of an expert, and what disturbs it."""

import itertools

from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.losses import LOSSES
from expertree.experts.recipe import ExpertJob, RecipeConfig

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


def stop_after(num_samples):
    def on_progress(status):
        if status["samples"] >= num_samples:
            raise StoppedError

    return on_progress


def weights(directory):
    return directory.read_bytes("expert.safetensors")


def spoil_losses(monkeypatch, *calls):
    """Let the loss be NaN at some calls, counted over all steps of the test."""
    count = itertools.count()

    def l1(restored, clean):
        return (restored - clean).abs().mean() * (float("nan") if next(count) in calls else 1.0)

    monkeypatch.setitem(LOSSES, "l1", l1)
