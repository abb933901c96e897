"""Jobs: attempts, entrypoints with settings that there are, and Kueue's admission."""

import itertools
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from expertree.cli.composing import compose
from expertree.pipeline.settings import BuildConfig
from expertree.search.settings import SearchConfig
from kustomized import Object
from manifests import GPU, JOBS, ROOT, asked, bytes_of, cluster_of, env_of, groups, of_kind, pods


@pytest.mark.parametrize("made", JOBS)
def test_a_failed_attempt_is_followed_by_another_and_nothing_is_left(made: Object) -> None:
    spec = made["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] >= 1
    # With these KubeRay allows no further attempt, or none of its own submitter.
    assert "clusterSelector" not in spec
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"


def arguments(job: Object) -> list[str]:
    """The entrypoint as the submitter's shell leaves it."""
    ((_, settings),) = of_kind("ConfigMap")
    known = settings["data"] | env_of(job["spec"]["submitterPodTemplate"]["spec"])
    text = re.sub(r"\$(\w+)", lambda found: known[found[1]], job["spec"]["entrypoint"])
    return shlex.split(text)


@pytest.mark.parametrize("name", [name for name, _ in of_kind("RayJob")])
def test_the_entrypoint_is_a_verb_with_settings_that_it_has(name: str) -> None:
    (job,) = [own for other, own in of_kind("RayJob") if other == name]
    program, verb, *rest = arguments(job)
    assert program == "expertree"
    cls, config_name = {"build": (BuildConfig, "build_tree"), "search": (SearchConfig, "search")}[
        verb
    ]
    if verb == "search":
        (space,) = [own for own in rest if own.startswith("search_space=")]
        assert (ROOT / "search_spaces" / f"{space.partition('=')[2]}.yaml").is_file()
        rest.remove(space)
    config = compose(cls, rest, verb=verb, config_name=config_name)
    assert config is not None
    check_lanes(config.cluster, job)
    # Each process of the cluster must see them, and the next attempt's driver too.
    assert config.store.startswith("s3://")
    assert config.output.startswith("s3://")


@pytest.mark.parametrize("made", JOBS)
def test_every_pod_sees_the_photographs_as_a_folder(made: Object) -> None:
    (source,) = [own for own in arguments(made) if own.startswith("photographs.source=")]
    folder = source.partition("=")[2]
    claims = {own["metadata"]["name"]: own["spec"] for _, own in of_kind("PersistentVolumeClaim")}
    volumes = {own["metadata"]["name"]: own["spec"] for _, own in of_kind("PersistentVolume")}
    for _, pod in pods(cluster_of(made)):
        (mount,) = [
            own
            for own in pod["containers"][0]["volumeMounts"]
            if f"{folder}/".startswith(f"{own['mountPath']}/")
        ]
        (volume,) = [own for own in pod["volumes"] if own["name"] == mount["name"]]
        claim = claims[volume["persistentVolumeClaim"]["claimName"]]
        assert claim["accessModes"] == volumes[claim["volumeName"]]["accessModes"]
        assert claim["accessModes"] == ["ReadOnlyMany"]


def check_lanes(config: Any, job: Object) -> None:
    sizes = {group["groupName"]: group for group in cluster_of(job)["workerGroupSpecs"]}
    assert config.use_gpu == ("gpu" in sizes)
    scales = "enableInTreeAutoscaling" in cluster_of(job)
    assert config.gpus_may_come == (scales and config.use_gpu)
    if config.use_gpu and scales:
        gpu = sizes["gpu"]
        (ray,) = gpu["template"]["spec"]["containers"]
        assert config.num_lanes == gpu["maxReplicas"] * ray["resources"]["limits"][GPU]
    elif scales:
        cpus = asked(sizes["cpu"]["template"]["spec"])["cpu"] * sizes["cpu"]["maxReplicas"]
        assert config.num_lanes * config.cpus_per_lane <= cpus / 2
    else:
        assert config.num_lanes is None


def test_a_search_writes_where_a_second_attempt_finds_it() -> None:
    # Optuna's study is a file, which a bucket does not have.
    for name, job in of_kind("RayJob"):
        if "search" in name:
            assert "search.searcher=random" in arguments(job)


@pytest.mark.parametrize("name", [name for name, _ in of_kind("RayJob") if "queued" in name])
def test_kueue_admits_the_job(name: str) -> None:
    (job,) = [own for other, own in of_kind("RayJob") if other == name]
    ((_, local),) = of_kind("LocalQueue")
    ((_, queue),) = of_kind("ClusterQueue")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == local["metadata"]["name"]
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    assert job["metadata"]["namespace"] == local["metadata"]["namespace"]
    cluster = cluster_of(job)
    assert "enableInTreeAutoscaling" not in cluster  # or Kueue wants a gate that is not on
    assert len(cluster["workerGroupSpecs"]) <= 17
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    (resources,) = queue["spec"]["resourceGroups"]
    needs = list(needed(job))
    left = {
        flavor["name"]: {own["name"]: bytes_of(own["nominalQuota"]) for own in flavor["resources"]}
        for flavor in resources["flavors"]
    }
    for flavor in left.values():
        assert set(flavor) == set(resources["coveredResources"])
    for pod, count, need in needs:
        assert set(need) <= set(resources["coveredResources"])
        (flavor,) = itertools.islice((own for own in left if fits(pod, own)), 1)
        for resource, amount in need.items():
            left[flavor][resource] -= amount * count
    assert min(amount for flavor in left.values() for amount in flavor.values()) >= 0


def needed(job: Object) -> Iterator[tuple[Object, int, dict[str, float]]]:
    cluster = cluster_of(job)
    for name, group in groups(cluster):
        pod = group["template"]["spec"]
        yield pod, 1 if name == "head" else group["replicas"], asked(pod)
    submitter = job["spec"]["submitterPodTemplate"]["spec"]
    yield submitter, 1, asked(submitter)


def fits(pod: Object, flavor: str) -> bool:
    """Whether Kueue may give a pod a flavor, by its labels and taints."""
    (spec,) = [
        own["spec"] for _, own in of_kind("ResourceFlavor") if own["metadata"]["name"] == flavor
    ]
    selector, tolerated = (
        pod.get("nodeSelector", {}),
        {own["key"] for own in pod.get("tolerations", [])},
    )
    same = all(selector.get(key, value) == value for key, value in spec["nodeLabels"].items())
    return same and all(taint["key"] in tolerated for taint in spec.get("nodeTaints", []))
