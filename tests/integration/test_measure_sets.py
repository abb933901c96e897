"""Public sets on a Ray cluster give the numbers that one process gives."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from expertree.benchmarks.fresh import fresh_bundle
from expertree.orchestration.cluster import connect
from expertree.orchestration.measure_sets import on_cluster
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.public_sets import measure_sets
from expertree.public_sets.run import in_this_process
from expertree.restorer.on_dataset import EvaluateConfig
from expertree.storage import Storage
from served import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for side in ("input", "target"):
        for number in range(1, 6):
            path = tmp_path / "sets/Rain12" / side / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    return tmp_path / "sets"


def test_a_cluster_measures_what_this_process_measures(
    local_cluster: Any, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As drivers of other processes that join it.
    monkeypatch.setenv("RAY_TMPDIR", local_cluster.environment["RAY_TMPDIR"])
    bundle = fresh_bundle(Storage.open(tmp_path / "bundle"), SMALL, seed=1).uri
    reports = []
    # A connection that is there already is kept: no cluster is started for this test.
    with connect(ClusterConfig(address=local_cluster.address)):
        for name, work in (("here", in_this_process), ("ray", on_cluster)):
            config = EvaluateConfig(
                bundle=bundle,
                sets=str(sets),
                partial=True,
                cluster="local",
                output=str(tmp_path / name),
            )
            report, _ = measure_sets(config, work, lambda *_: None)
            reports.append(report)
    assert reports[0].table == reports[1].table
    assert [column.num_images for column in reports[0].table.columns] == [5]
