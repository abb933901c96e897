"""The clusters that other tests stand on, and what the README says of jobs."""

import urllib.error
from typing import Any

import pytest
import ray

pytestmark = pytest.mark.ray

WHERE_IS_THE_PACKAGE = """
import ray, expertree
ray.init()

@ray.remote
def on_worker():
    import expertree
    return expertree.__file__

print("driver:", expertree.__file__)
print("worker:", ray.get(on_worker.remote()))
"""


def test_a_submitted_job_brings_the_package_to_driver_and_workers(local_cluster: Any) -> None:
    job = local_cluster.submit("python", "-c", WHERE_IS_THE_PACKAGE)
    assert job.returncode == 0, job.stdout + job.stderr
    for place in ("driver", "worker"):
        (line,) = [line for line in job.stdout.splitlines() if f"{place}: /" in line]
        assert "/py_modules_files/" in line


def test_a_failed_job_fails_the_command(local_cluster: Any) -> None:
    job = local_cluster.submit("python", "-c", "raise SystemExit('no photographs')")
    assert job.returncode != 0
    assert "no photographs" in job.stdout


def test_the_dashboard_answers_nobody_without_the_token(local_cluster: Any) -> None:
    with pytest.raises(urllib.error.HTTPError, match=r"40[13]"):
        local_cluster.get("/api/version", token="another")
    assert local_cluster.get("/api/version")["ray_version"] == ray.__version__


def test_a_killed_node_leaves_nothing_and_the_head_stays(local_cluster: Any) -> None:
    node = local_cluster.add_node(num_cpus=1)
    node.kill()
    assert node.processes() == []
    assert local_cluster.num_alive_nodes() >= 1
