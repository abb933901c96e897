"""The manifests, rendered: their schemas, and the rules that schemas do not hold.

The rules are those of KubeRay's own validation, of Kueue's admission, and of what must fit together
for nothing to be lost when a pod ends. docs/KUBERNETES.md is held to what the manifests need.
"""

import copy
import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from expertree.cli.composing import compose
from expertree.config import load
from expertree.pipeline.settings import BuildConfig
from expertree.search.settings import SearchConfig
from expertree.serving.deployments import ServingConfig
from kubernetes_schemas import PUBLISHED, definition, problems
from kustomized import LOCAL, Object, containers, folders, render

ROOT = Path(__file__).parents[2]
MANIFESTS = (ROOT / "jobs" / "kubernetes", ROOT / "serve" / "kubernetes")
FOLDERS = [folder for root in MANIFESTS for folder in folders(root)]
GUIDE = (ROOT / "docs" / "KUBERNETES.md").read_text()

PART = {"app.kubernetes.io/part-of": "expertree"}
GPU = "nvidia.com/gpu"
CLUSTER_SPECS = {"RayCluster": "", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}
LONGEST_NAMES = {"RayCluster": 53, "RayJob": 47, "RayService": 47}


def name_of(folder: Path) -> str:
    return "-".join(folder.relative_to(ROOT).parts)


RENDERED = {name_of(folder): render(folder) for folder in FOLDERS}
OBJECTS = [
    pytest.param(made, id=f"{name}-{made['kind']}-{made['metadata']['name']}")
    for name, objects in RENDERED.items()
    for made in objects
]


def of_kind(kind: str) -> list[tuple[str, Object]]:
    return [
        (name, made) for name, objs in RENDERED.items() for made in objs if made["kind"] == kind
    ]


def cluster_of(made: Object) -> Object:
    path = CLUSTER_SPECS[made["kind"]]
    return made["spec"][path] if path else made["spec"]


CLUSTERS = [
    pytest.param(made, id=f"{name}-{kind}")
    for kind in CLUSTER_SPECS
    for name, made in of_kind(kind)
]
SERVICES = [pytest.param(made, id=name) for name, made in of_kind("RayService")]
JOBS = [pytest.param(made, id=name) for name, made in of_kind("RayJob")]


def groups(cluster: Object) -> Iterator[tuple[str, Object]]:
    """Every group of a cluster with its name, the head first."""
    yield "head", cluster["headGroupSpec"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group


def pods(cluster: Object) -> Iterator[tuple[str, Object]]:
    for name, group in groups(cluster):
        yield name, group["template"]["spec"]


def labels_of_pods(made: Object) -> list[dict[str, str]]:
    """Labels of the pods that come of an object, with those that KubeRay adds."""
    if made["kind"] == "StatefulSet":
        return [made["spec"]["template"]["metadata"]["labels"]]
    if made["kind"] not in CLUSTER_SPECS:
        return []
    found = [
        {
            **group["template"]["metadata"]["labels"],
            "ray.io/node-type": "head" if name == "head" else "worker",
            "ray.io/group": "headgroup" if name == "head" else name,
        }
        for name, group in groups(cluster_of(made))
    ]
    if made["kind"] == "RayJob":
        found.append(made["spec"]["submitterPodTemplate"]["metadata"]["labels"])
    return found


def env_of(pod: Object) -> dict[str, str]:
    return {own["name"]: own["value"] for own in pod["containers"][0].get("env", [])}


def bytes_of(quantity: str | int) -> float:
    """Read an amount as Kubernetes writes it, of CPUs, bytes or devices."""
    number, unit = re.fullmatch(r"([\d.]+)(m|[KMGT]i)?", str(quantity)).groups()
    scale = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(number) * scale.get(unit, 1)


def asked(pod: Object) -> dict[str, float]:
    total: dict[str, float] = {}
    for container in pod["containers"]:
        for name, amount in container["resources"]["requests"].items():
            total[name] = total.get(name, 0) + bytes_of(amount)
    return total


# What is applied


@pytest.mark.parametrize("made", OBJECTS)
def test_kubernetes_accepts_it(made: Object) -> None:
    assert problems(made) == []


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("RayJob", ("spec",), "shutdownAfterJobFinish"),
        ("RayJob", ("spec", "rayClusterSpec", "workerGroupSpecs", 0), "minReplica"),
        ("RayJob", ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec"), "volume"),
        ("RayService", ("spec",), "serveConfig"),
        ("RayService", ("metadata",), "label"),
        ("ClusterQueue", ("spec", "resourceGroups", 0, "flavors", 0), "resource"),
        ("NetworkPolicy", ("spec", "ingress", 0), "port"),
        ("PodDisruptionBudget", ("spec",), "minAvailible"),
        ("StatefulSet", ("spec", "template", "spec"), "container"),
    ],
)
def test_a_misspelt_field_is_refused(kind: str, path: tuple[Any, ...], wrong: str) -> None:
    made = copy.deepcopy(of_kind(kind)[0][1])
    assert problems(made) == []
    place = made
    for key in path:
        place = place[key]
    place[wrong] = 1
    assert any(repr(wrong) in problem for problem in problems(made))


def test_a_wrong_type_and_a_missing_field_are_refused() -> None:
    made = copy.deepcopy(of_kind("RayJob")[0][1])
    made["spec"]["backoffLimit"] = "three"
    del made["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    assert len(problems(made)) == 2


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_kustomize_makes_the_same_of_it(folder: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here, whose `kubectl kustomize` the tests' own is held against")
    done = subprocess.run(
        [kubectl, "kustomize", folder], check=True, capture_output=True, text=True, timeout=60
    )
    theirs = [made for made in yaml.safe_load_all(done.stdout) if made]

    def key(made: Object) -> tuple[str, str]:
        return made["kind"], made["metadata"]["name"]

    assert sorted(RENDERED[name_of(folder)], key=key) == sorted(theirs, key=key)


def test_the_shared_cluster_is_not_applied_by_itself() -> None:
    (shared,) = (yaml.safe_load((MANIFESTS[0] / "cluster" / "cluster.yaml").read_text()),)
    assert shared["metadata"]["annotations"][LOCAL] == "true"
    assert [name for name, _ in of_kind("RayCluster")] == ["jobs-kubernetes-standing"]


def test_objects_lie_in_the_namespace_unless_they_are_the_clusters() -> None:
    for name, objects in RENDERED.items():
        for made in objects:
            of_cluster = made["kind"] in {"Namespace", "ClusterQueue", "ResourceFlavor"}
            if made["kind"] in PUBLISHED:
                scope = definition(made["kind"])["scope"]
                assert of_cluster == (scope == "Cluster"), made["kind"]
            if name != "jobs-kubernetes-cluster":
                wanted = None if of_cluster else "expertree"
                assert made["metadata"].get("namespace") == wanted, made["kind"]


@pytest.mark.parametrize("made", CLUSTERS)
def test_names_leave_room_for_what_kuberay_appends(made: Object) -> None:
    name = made["metadata"]["name"]
    assert len(name) <= LONGEST_NAMES[made["kind"]]
    for each in (name, *(group for group, _ in groups(cluster_of(made)))):
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", each)


# Versions and images


@pytest.mark.parametrize("made", CLUSTERS)
def test_it_says_the_ray_of_the_lock_file(made: Object) -> None:
    version = cluster_of(made)["rayVersion"]
    assert f"\nray=={version} " in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("name", [name for name in RENDERED if name != "jobs-kubernetes-cluster"])
def test_every_ray_process_runs_one_image(name: str) -> None:
    images = {
        container["image"]
        for made in RENDERED[name]
        if made["kind"] in CLUSTER_SPECS
        for container in containers(made)
    }
    assert images <= {"registry.example.com/expertree:gpu"}


# Ray's rules


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


# A container that can do little


@pytest.mark.parametrize("made", OBJECTS)
def test_containers_are_restricted(made: Object) -> None:
    for spec in pod_specs(made):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            check_restricted(container["securityContext"])


def pod_specs(node: Any) -> Iterator[Object]:
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for value in node.values():
            yield from pod_specs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_specs(value)


def check_restricted(context: Object) -> None:
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_namespace_enforces_it() -> None:
    ((_, namespace),) = of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("made", CLUSTERS)
def test_where_ray_writes_there_are_volumes_of_a_size(made: Object) -> None:
    for _, group in groups(cluster_of(made)):
        pod = group["template"]["spec"]
        mounts = {own["mountPath"]: own["name"] for own in pod["containers"][0]["volumeMounts"]}
        # By this name KubeRay finds the volume that it shares with the autoscaler.
        assert mounts["/tmp/ray"] == "ray-logs"
        assert {"/tmp", "/home/expertree"} <= set(mounts)
        assert group["rayStartParams"]["object-spilling-directory"] in mounts
        volumes = {own["name"]: own for own in pod["volumes"]}
        assert set(mounts.values()) == set(volumes)
        on_disk = [
            bytes_of(own["emptyDir"]["sizeLimit"]) for own in volumes.values() if "emptyDir" in own
        ]
        assert len(on_disk) == len(volumes) - 1
        assert sum(on_disk) < asked(pod)["ephemeral-storage"]
        claim = volumes[mounts["/spill"]]["ephemeral"]["volumeClaimTemplate"]["spec"]
        assert bytes_of(claim["resources"]["requests"]["storage"]) >= 2**30


@pytest.mark.parametrize("made", CLUSTERS)
def test_the_autoscaler_is_restricted_too_and_writes_where_the_head_does(made: Object) -> None:
    cluster = cluster_of(made)
    if "autoscalerOptions" in cluster:
        check_restricted(cluster["autoscalerOptions"]["securityContext"])
        names = {own["name"] for own in cluster["headGroupSpec"]["template"]["spec"]["volumes"]}
        assert {own["name"] for own in cluster["autoscalerOptions"]["volumeMounts"]} <= names


@pytest.mark.parametrize("made", CLUSTERS)
def test_only_the_head_may_speak_to_kubernetes(made: Object) -> None:
    for name, pod in pods(cluster_of(made)):
        assert pod["serviceAccountName"] == "expertree"
        assert pod.get("automountServiceAccountToken", True) == (name == "head")


@pytest.mark.parametrize("made", OBJECTS)
def test_secrets_accounts_and_settings_exist(made: Object) -> None:
    accounts = {account["metadata"]["name"] for _, account in of_kind("ServiceAccount")}
    for spec in pod_specs(made):
        assert spec.get("serviceAccountName", "expertree") in accounts
    told = dict(
        re.findall(r"create secret generic ([\w-]+) *\\?\s*--from-(?:literal|file)=(\w+)", GUIDE)
    )
    secrets = list(referenced(made, "secretKeyRef")) + list(referenced(made, "secretRef"))
    for secret in secrets:
        assert secret["name"] in told
        assert secret.get("key", told[secret["name"]]) == told[secret["name"]]
    if made["kind"] in CLUSTER_SPECS:
        assert told[cluster_of(made)["authOptions"]["secretName"]] == "auth_token"
    assert {own["name"] for own in referenced(made, "configMapRef")} <= {"expertree-settings"}


def referenced(node: Any, key: str) -> Iterator[Object]:
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for value in node.values():
            yield from referenced(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from referenced(value, key)


def test_no_secret_lies_among_the_manifests() -> None:
    assert of_kind("Secret") == []


# Who selects whom


def all_pods() -> list[dict[str, str]]:
    return [
        labels
        for objects in RENDERED.values()
        for made in objects
        for labels in labels_of_pods(made)
    ]


@pytest.mark.parametrize("made", OBJECTS)
def test_a_selector_selects_pods_that_there_are(made: Object) -> None:
    if made["kind"] not in {"PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "Service"}:
        return
    spec = made["spec"]
    wanted = spec["podSelector"] if "podSelector" in spec else spec["selector"]
    wanted = wanted.get("matchLabels", wanted)
    assert [labels for labels in all_pods() if wanted.items() <= labels.items()]
    for peer in referenced(spec, "podSelector"):
        assert [own for own in all_pods() if peer["matchLabels"].items() <= own.items()]


@pytest.mark.parametrize("made", CLUSTERS)
def test_every_pod_of_ray_is_behind_the_network_policy_and_watched(made: Object) -> None:
    for labels in labels_of_pods(made):
        assert PART.items() <= labels.items()
    ((_, monitor),) = of_kind("PodMonitor")
    assert monitor["spec"]["selector"] == {"matchLabels": PART}


@pytest.mark.parametrize("name", [name for name, _ in of_kind("RayJob") + of_kind("RayService")])
def test_a_budget_keeps_the_head_and_no_other_jobs(name: str) -> None:
    objects = RENDERED[name]
    (owner,) = [made for made in objects if made["kind"] in {"RayJob", "RayService"}]
    head, *others = labels_of_pods(owner)
    keeping = [
        made["spec"]["selector"]["matchLabels"]
        for made in objects
        if made["kind"] == "PodDisruptionBudget"
        and made["spec"]["selector"]["matchLabels"].items() <= head.items()
    ]
    (selector,) = keeping
    assert not [labels for labels in others if selector.items() <= labels.items()]
    elsewhere = [
        labels
        for other, made in of_kind("RayJob") + of_kind("RayService")
        if made["metadata"]["name"] != owner["metadata"]["name"] or made["kind"] != owner["kind"]
        for labels in labels_of_pods(made)
    ]
    assert not [labels for labels in elsewhere if selector.items() <= labels.items()]


@pytest.mark.parametrize("made", SERVICES)
def test_a_budget_leaves_a_node_to_be_drained(made: Object) -> None:
    (budget,) = [
        own
        for name, own in of_kind("PodDisruptionBudget")
        if own["metadata"]["name"] == "expertree-endpoint" and name.endswith("cpu")
    ]
    selector = budget["spec"]["selector"]["matchLabels"]
    staying = sum(
        group["minReplicas"]
        for group, labels in zip(
            cluster_of(made)["workerGroupSpecs"], labels_of_pods(made)[1:], strict=True
        )
        if selector.items() <= labels.items()
    )
    assert budget["spec"]["minAvailable"] < staying


# Jobs


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


def arguments(name: str, job: Object) -> list[str]:
    """The entrypoint as the submitter's shell leaves it."""
    ((_, settings),) = [own for own in of_kind("ConfigMap") if own[0] == name]
    text = re.sub(r"\$(\w+)", lambda found: settings["data"][found[1]], job["spec"]["entrypoint"])
    return shlex.split(text)


@pytest.mark.parametrize("name", [name for name, _ in of_kind("RayJob")])
def test_the_entrypoint_is_a_verb_with_settings_that_it_has(name: str) -> None:
    (job,) = [own for other, own in of_kind("RayJob") if other == name]
    program, verb, *rest = arguments(name, job)
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
            assert "search.searcher=random" in arguments(name, job)


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


# The endpoint


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


# The guide


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_the_guide_names_every_folder_that_is_applied(folder: Path) -> None:
    if folder.name != "cluster":
        assert str(folder.relative_to(ROOT)) in GUIDE


def test_the_guide_names_folders_that_exist() -> None:
    named = re.findall(r"(?:jobs|serve)/kubernetes/[\w/.-]*\w", GUIDE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
