"""`ready` runs when the bundle does: what KubeRay waits for before it moves requests."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import serve

from expertree.orchestration.cluster import connect
from expertree.orchestration.serving.app import APP, RunningApplication, build_application, url_of
from expertree.orchestration.serving.ready import application
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.serving.deployments import ServeConfig
from served import Endpoint, config_of, free_port, two_bundles

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

READY = "ready"


@pytest.fixture
def config() -> Iterator[ServeConfig]:
    """An endpoint without a bundle, as before its bundle is loaded, with `ready` beside it."""
    made = config_of("", free_port())
    with connect(ClusterConfig(num_cores=made.num_cores, dashboard=False)):
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": made.http.host, "port": made.http.port},
        )
        try:
            targets = [
                # Before what it waits for, as Serve starts the applications of a file in any order.
                serve.RunTarget(application, name=READY, route_prefix=None),
                serve.RunTarget(build_application(made.application), name=APP, route_prefix="/"),
            ]
            serve.run_many(
                targets,
                wait_for_ingress_deployment_creation=False,
                wait_for_applications_running=False,
            )
            yield made
        finally:
            serve.shutdown()


def status_of(app: str) -> str:
    return serve.status().applications[app].status.value


def wait_for(app: str) -> None:
    deadline_s = time.monotonic() + 240
    while (status := status_of(app)) != "RUNNING":
        assert status == "DEPLOYING"
        assert time.monotonic() < deadline_s
        time.sleep(0.25)


def test_ready_waits_for_a_bundle_that_can_be_served(config: ServeConfig, tmp_path: Path) -> None:
    wait_for(APP)
    endpoint = Endpoint(RunningApplication(url_of(config)))
    assert endpoint.ask("GET", "/readyz").status == 503
    problem = endpoint.running.update(str(tmp_path / "none")).problem
    assert problem is not None
    time.sleep(3)
    assert status_of(APP) == "RUNNING"
    assert status_of(READY) == "DEPLOYING"
    bundle, _ = two_bundles(tmp_path)
    assert endpoint.running.update(bundle).problem is None
    wait_for(READY)
    assert endpoint.ask("GET", "/readyz").status == 200
