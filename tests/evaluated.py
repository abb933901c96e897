"""What a bundle makes of the patches that its build was evaluated on, beside what was said."""

from pathlib import Path

import numpy as np

from expertree import Restorer
from expertree.experts.patches import read_patches
from expertree.images.metrics import psnr_rgb
from expertree.pipeline.earlier_build import FinishedBuild

WITHIN_DB = 0.02
"""A network's sums differ a little between a batch of patches and one image."""


def check_patch_by_patch(output: Path, split: str) -> None:
    """Restore every patch of a set by the bundle; assert the evaluation's number for each."""
    build = FinishedBuild(str(output), key="output")
    restorer = Restorer.load(output / "bundle")
    said = build.scored(split)
    table = build.directory(f"degrade/{split}")
    patches = read_patches(table, table.list_files(".parquet"))
    rows = range(len(patches))
    reached = np.empty(len(patches))
    expected = np.empty(len(patches))
    for row, lq, gt in zip(
        rows, patches.images("lq", rows), patches.images("gt", rows), strict=True
    ):
        restoration = restorer.restore(lq)
        reached[row] = psnr_rgb(restoration.image, gt)
        route = restoration.route
        expected[row] = said.inputs[row] if route.expert is None else said.psnr[row, route.node]
    np.testing.assert_allclose(reached, expected, atol=WITHIN_DB)
    averages = build.report["summary"]["psnr_rgb"][split.removeprefix("val_")]
    by_task = [
        np.mean([value for value, own in zip(reached, said.tasks, strict=True) if own == (task,)])
        for task in dict.fromkeys(tasks[0] for tasks in said.tasks if len(tasks) == 1)
    ]
    assert abs(np.mean(by_task) - averages["routed"]) < WITHIN_DB
