"""The endpoint on Kubernetes: where it listens, how pods end, what fits onto nodes."""

from typing import Any

import pytest
import yaml

from expertree.config import load
from expertree.serving.deployments import ServingConfig
from kustomized import Object
from manifests import CLUSTERS, GPU, SERVICES, asked, cluster_of, env_of, pods


def serving_of(made: Object) -> tuple[Object, ServingConfig]:
    data = yaml.safe_load(made["spec"]["serveConfigV2"])
    application = next(own for own in data["applications"] if own["name"] == "expertree")
    return data, load(ServingConfig, application["args"])


def deployments(config: ServingConfig) -> list[Any]:
    return [config.gateway, config.router, *config.pools]


@pytest.mark.parametrize("made", SERVICES)
def test_the_endpoint_listens_where_kubernetes_looks(made: Object) -> None:
    data, config = serving_of(made)
    assert (config.http.host, config.http.port) == ("0.0.0.0", 8000)
    assert data["http_options"] == {"host": "0.0.0.0", "port": 8000}
    assert data["proxy_location"] == "EveryNode"
    assert made["spec"]["excludeHeadPodFromServeSvc"] is True
    for name, pod in pods(cluster_of(made)):
        if name != "head":
            probe = pod["containers"][0]["readinessProbe"]
            assert probe["httpGet"] == {"path": "/-/healthz", "port": 8000}


@pytest.mark.parametrize("made", SERVICES)
def test_a_pod_that_ends_loses_no_request(made: Object) -> None:
    _, config = serving_of(made)
    longest_s = config.http.limits.deadline_s
    for deployment in deployments(config):
        assert deployment.drain_s >= longest_s
    for name, pod in pods(cluster_of(made)):
        drain_s = float(env_of(pod)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        # Serve's proxy drains for 30 s at least, and looks every 5 s whether it is done.
        assert drain_s >= max(longest_s, 30 + 5) + 15
        before_s = 0.0
        if name != "head":
            command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            assert command[0] == "sleep"  # never `ray stop`: it kills what drains
            before_s = float(command[1])
            probe = pod["containers"][0]["readinessProbe"]
            assert before_s > probe["periodSeconds"] * probe["failureThreshold"]
        assert pod["terminationGracePeriodSeconds"] >= before_s + drain_s + 15
    assert made["spec"]["rayClusterDeletionDelaySeconds"] > longest_s
    assert made["spec"]["upgradeStrategy"] == {"type": "NewCluster"}


@pytest.mark.parametrize("made", [own for own in CLUSTERS if own.values[0]["kind"] != "RayService"])
def test_a_training_pod_is_given_time_to_write_its_checkpoint(made: Object) -> None:
    for _, pod in pods(cluster_of(made)):
        drain_s = float(env_of(pod)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert 0 < drain_s <= pod["terminationGracePeriodSeconds"] - 15


@pytest.mark.parametrize("made", SERVICES)
def test_what_stays_fits_into_the_nodes_that_stay(made: Object) -> None:
    _, config = serving_of(made)
    sizes = {group["groupName"]: group for group in cluster_of(made)["workerGroupSpecs"]}
    staying: dict[str, float] = {}
    for group in sizes.values():
        for resource, amount in asked(group["template"]["spec"]).items():
            staying[resource] = staying.get(resource, 0) + amount * group["minReplicas"]
    each = [(max(1, own.min_replicas), own) for own in deployments(config)]
    assert sum(count * own.num_cpus for count, own in each) <= staying["cpu"]
    assert sum(count * own.num_gpus for count, own in each) <= staying.get(GPU, 0)
    assert any(own.num_gpus for _, own in each) == ("gpu" in sizes)


@pytest.mark.parametrize("made", SERVICES)
def test_nobody_has_a_key_before_it_is_given(made: Object) -> None:
    _, config = serving_of(made)
    assert {key.sha256 for key in config.http.keys} == {"0" * 64}
