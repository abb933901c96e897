"""The losses of the first 20 steps of each network are those of before, whatever was changed."""

import json
from pathlib import Path

import pytest
import torch

from expertree.experts.backbones import BackboneConfig
from expertree.experts.patches import PairedPatches
from expertree.experts.recipe import ExpertJob, RecipeConfig
from expertree.experts.training import train_expert
from expertree.storage import Storage

NUM_STEPS = 20
BATCH = 3
WITHIN = 1e-3
"""Relative, on another kind of processor, whose kernels add up in another order: with those of AVX2
in place of AVX-512 losses differed by 2e-7 at most."""

GOLDEN = json.loads(Path(__file__).with_name("golden_losses.json").read_text())


def machine() -> str:
    """What must be the same for the same bits: the processor, its kernels and their library."""
    told = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    fields = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in told)
    }
    of = [fields.get(name, "") for name in ("model name", "model", "stepping", "cache size")]
    return f"{', '.join(of)}, {torch.backends.cpu.get_cpu_capability()}, {torch.__version__}"


def test_the_losses_of_the_first_steps_are_those_of_before(
    tiny: BackboneConfig, patches: PairedPatches, tmp_path: Path
) -> None:
    directory = Storage.open(tmp_path)
    job = ExpertJob(
        key="golden",
        backbone=tiny,
        recipe=RecipeConfig(batch_size=BATCH, patch_px=16, fresh=False),
        num_samples=NUM_STEPS * BATCH,
        seed=5,
    )
    train_expert(job, patches=patches, directory=directory)
    curve = directory.read_json("log.json")["curve"]
    assert curve["samples"] == [BATCH * (step + 1) for step in range(NUM_STEPS)]
    losses = curve["loss"]
    golden = GOLDEN["losses"][tiny.name]
    now = f"now {tiny.name}: {json.dumps(losses)} on {machine()}"
    if machine() == GOLDEN["machine"]:
        assert losses == golden, now
    assert losses == pytest.approx(golden, rel=WITHIN), now
