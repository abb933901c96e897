"""Clusters of the manifests by the rules of Ray and of KubeRay."""

import pytest

from kustomized import Object
from manifests import CLUSTERS, GPU, asked, bytes_of, cluster_of, env_of, groups, of_kind, pods


@pytest.mark.parametrize("made", CLUSTERS)
def test_the_head_has_no_work_of_its_own(made: Object) -> None:
    head = cluster_of(made)["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["rayStartParams"]["num-gpus"] == "0"
    assert GPU not in asked(head["template"]["spec"])


@pytest.mark.parametrize("made", CLUSTERS)
def test_resources_are_whole_where_ray_counts_them_and_said_once(made: Object) -> None:
    for name, group in groups(cluster_of(made)):
        # Beside rayStartParams, KubeRay refuses them.
        assert not {"resources", "labels"} & set(group)
        assert "labels" not in group["rayStartParams"]
        (ray, *_) = group["template"]["spec"]["containers"]
        assert ray["resources"]["requests"] == ray["resources"]["limits"]
        assert bytes_of(ray["resources"]["limits"]["cpu"]) % 1 == 0
        gpus = ray["resources"]["limits"].get(GPU, 0)
        assert isinstance(gpus, int)
        assert (gpus >= 1) == (name == "gpu")


@pytest.mark.parametrize("made", CLUSTERS)
def test_the_autoscaler_is_one_that_this_ray_has(made: Object) -> None:
    cluster = cluster_of(made)
    if "enableInTreeAutoscaling" not in cluster:
        assert "autoscalerOptions" not in cluster
        return
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    for _, pod in pods(cluster):
        # Version 2 replaces pods and does not restart them; the variable contradicts the field.
        assert pod.get("restartPolicy", "Never") == "Never"
        assert "RAY_enable_autoscaler_v2" not in env_of(pod)


@pytest.mark.parametrize("made", CLUSTERS)
def test_groups_begin_within_their_limits(made: Object) -> None:
    for group in cluster_of(made)["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["maxReplicas"] >= 1


@pytest.mark.parametrize("made", CLUSTERS)
def test_gpu_nodes_come_from_zero_unless_they_are_queued_for_or_serve(made: Object) -> None:
    sizes = {group["groupName"]: group for group in cluster_of(made)["workerGroupSpecs"]}
    if "gpu" in sizes and made["kind"] != "RayService" and "labels" not in made["metadata"]:
        assert sizes["gpu"]["minReplicas"] == 0


@pytest.mark.parametrize("made", CLUSTERS)
def test_only_gpu_nodes_are_ones_that_may_be_taken_back(made: Object) -> None:
    for name, pod in pods(cluster_of(made)):
        kind = pod.get("nodeSelector", {}).get("karpenter.sh/capacity-type")
        assert kind in ({None, "spot"} if name == "gpu" else {None, "on-demand"})


@pytest.mark.parametrize("made", CLUSTERS)
def test_redis_is_named_in_one_place(made: Object) -> None:
    cluster = cluster_of(made)
    head = cluster["headGroupSpec"]
    named = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"}
    assert not named & set(env_of(head["template"]["spec"]))
    assert not {"redis-password", "redis-username"} & set(head["rayStartParams"])
    options = cluster.get("gcsFaultToleranceOptions")
    if options is not None:
        assert options["redisAddress"] == "redis://expertree-redis:6379"


@pytest.mark.parametrize("made", CLUSTERS)
def test_ray_asks_for_the_token(made: Object) -> None:
    assert cluster_of(made)["authOptions"] == {"mode": "token", "secretName": "expertree-ray-token"}
    for _, pod in pods(cluster_of(made)):
        assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & set(env_of(pod))  # KubeRay sets them


@pytest.mark.parametrize("made", CLUSTERS)
def test_ports_are_the_ones_that_kuberay_and_the_monitor_look_for(made: Object) -> None:
    wanted = {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080}
    wanted |= {"as-metrics": 44217, "dash-metrics": 44227}
    serve = {"serve": 8000} if made["kind"] == "RayService" else {}
    for name, pod in pods(cluster_of(made)):
        ports = {own["name"]: own["containerPort"] for own in pod["containers"][0]["ports"]}
        assert ports == serve | (wanted if name == "head" else {"metrics": 8080})
    monitored = {
        endpoint["port"]
        for _, monitor in of_kind("PodMonitor")
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
    }
    assert monitored == {"metrics", "as-metrics", "dash-metrics"}
