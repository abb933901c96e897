"""The patches of docs/EXTENDING.md, applied to a copy of the package and used as its text says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_FILES = 2

USES_THE_DEGRADATION = """
import numpy as np
from expertree.degradation.recipe import draw_recipe
from expertree.degradation.synthesis import degrade
from expertree.degradation.parts import make_part, plan_patches
from expertree.degradation.table import DegradationConfig
from expertree.degradation.photographs import list_photographs, load_photo

grey = np.full((32, 32, 3), 200, np.uint8)
for severity in ("in", "out", "any", 0.5):
    recipe = draw_recipe(
        np.random.default_rng(0), tasks=("vignette",), kind="single", severity=severity
    )
    spoiled = degrade(grey, recipe)
    assert spoiled[0, 0, 0] < 160 < 195 < spoiled[16, 16, 0], spoiled[0, 0, 0]
sets = DegradationConfig(tasks=("noise", "rain", "vignette"), patch_px=32, num_train=8).patch_sets()
photos, _ = list_photographs("bundled", min_side_px=32)
rows = [
    row
    for part in plan_patches(sets["train"], photos[:1], seed=0)
    for row in make_part(part, load_photo(part.photo)).to_pylist()
]
captions = {row["caption"] for row in rows if row["tasks"] == ["vignette"]}
assert captions and captions <= {"light vignette", "heavy vignette"}, captions
"""

USES_THE_NETWORK = """
import torch
from expertree.experts.backbones import (
    backbone_config, build_backbone, describe_backbone, start_at_identity
)
from expertree.config import load
from expertree.errors import ConfigError
from expertree.pipeline.settings import ExpertsConfig

config = backbone_config("dncnn", width=8, middle=2)
data = {"name": "dncnn", "width": 8, "middle": 2}
assert load(ExpertsConfig, {"backbone": data}).backbone == config
try:
    load(ExpertsConfig, {"backbone": data | {"widht": 8}})
except ConfigError as error:
    assert "the backbone 'dncnn' has no 'widht'; did you mean 'width'?" in str(error)
else:
    raise AssertionError
network = build_backbone(config)
start_at_identity(network, config)
image = torch.rand(2, 3, 17, 30)
assert torch.equal(network(image), image)
assert describe_backbone(config).num_parameters == sum(p.numel() for p in network.parameters())
assert describe_backbone(backbone_config("dncnn")).num_parameters == 557_443
"""


def patches() -> list[str]:
    text = (ROOT / "docs" / "EXTENDING.md").read_text()
    return re.findall(r"^```diff\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("number", "program"),
    [(0, USES_THE_DEGRADATION), (1, USES_THE_NETWORK)],
    ids=["degradation", "network"],
)
def test_a_patch_of_two_files_adds_all_that_its_section_says(tmp_path, number, program):
    patch = patches()[number]
    assert 1 <= len(re.findall(r"^\+\+\+ ", patch, re.MULTILINE)) <= MOST_FILES
    (tmp_path / "platform").mkdir()
    ignored = shutil.ignore_patterns("*.safetensors")  # and with what is compiled already
    shutil.copytree(
        ROOT / "platform/expertree", tmp_path / "platform/expertree", ignore=ignored, symlinks=True
    )
    subprocess.run(
        ["git", "apply", "--unsafe-paths", "-"], input=patch, text=True, cwd=tmp_path, check=True
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "platform"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr


def test_there_is_a_patch_for_each_section():
    assert len(patches()) == MOST_FILES
