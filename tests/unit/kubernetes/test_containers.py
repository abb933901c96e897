"""Containers that can do little: what pods may do, read and write."""

import re

import pytest

from kustomized import Object
from manifests import (
    CLUSTER_SPECS,
    CLUSTERS,
    GUIDE,
    OBJECTS,
    asked,
    bytes_of,
    cluster_of,
    groups,
    of_kind,
    pod_specs,
    pods,
    referenced,
)


@pytest.mark.parametrize("made", OBJECTS)
def test_containers_are_restricted(made: Object) -> None:
    for spec in pod_specs(made):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            check_restricted(container["securityContext"])


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
        read = {name for name, own in volumes.items() if "persistentVolumeClaim" in own}
        check_read_only(pod, read)
        on_disk = [
            bytes_of(own["emptyDir"]["sizeLimit"]) for own in volumes.values() if "emptyDir" in own
        ]
        assert len(on_disk) == len(volumes) - len(read) - 1
        assert sum(on_disk) < asked(pod)["ephemeral-storage"]
        claim = volumes[mounts["/spill"]]["ephemeral"]["volumeClaimTemplate"]["spec"]
        assert bytes_of(claim["resources"]["requests"]["storage"]) >= 2**30


def check_read_only(pod: Object, names: set[str]) -> None:
    """What is there already is not written, so that it needs no size."""
    for volume in pod["volumes"]:
        if volume["name"] in names:
            assert volume["persistentVolumeClaim"]["readOnly"] is True
    for mount in pod["containers"][0]["volumeMounts"]:
        assert mount.get("readOnly", False) == (mount["name"] in names)


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
    settings = {own["metadata"]["name"] for _, own in of_kind("ConfigMap")}
    assert {own["name"] for own in referenced(made, "configMapRef")} <= settings


def test_no_secret_lies_among_the_manifests() -> None:
    assert of_kind("Secret") == []
