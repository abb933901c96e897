"""The manifests, rendered: schemas, names, versions, and what the guide says of them.

The rules that schemas do not hold are in the files beside this one: those of KubeRay's own
validation, of Kueue's admission, and of what must fit together for nothing to be lost when a pod
ends. docs/KUBERNETES.md is held to what the manifests need.
"""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_schemas import PUBLISHED, definition, problems
from kustomized import LOCAL, Object, containers
from manifests import (
    CLUSTER_SPECS,
    CLUSTERS,
    FOLDERS,
    GUIDE,
    LONGEST_NAMES,
    MANIFESTS,
    OBJECTS,
    RENDERED,
    ROOT,
    cluster_of,
    groups,
    name_of,
    of_kind,
)

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
            of_cluster = made["kind"] in {
                *("Namespace", "PersistentVolume", "ClusterQueue", "ResourceFlavor"),
            }
            if made["kind"] in PUBLISHED:
                scope = definition(made["kind"])["scope"]
                assert of_cluster == (scope == "Cluster"), made["kind"]
            if name != "jobs-kubernetes-cluster":
                wanted = None if of_cluster else "expertree"
                assert made["metadata"].get("namespace") == wanted, made["kind"]


ONE_AT_A_TIME = (MANIFESTS[0] / "build", MANIFESTS[0] / "search", MANIFESTS[1])
"""Folders whose folders are forms of one thing, of which one is applied."""


def test_whoever_deletes_a_folder_takes_nothing_from_another() -> None:
    owners: dict[tuple[str, str], set[Path]] = {}
    for folder in FOLDERS:
        thing = folder.parent if folder.parent in ONE_AT_A_TIME else folder
        for made in RENDERED[name_of(folder)]:
            owners.setdefault((made["kind"], made["metadata"]["name"]), set()).add(thing)
    assert {key: own for key, own in owners.items() if len(own) > 1} == {}


def test_no_two_clusters_have_one_head_service() -> None:
    # KubeRay names it by the object that the cluster is of, whichever kind that is.
    kinds: dict[str, set[str]] = {}
    for kind in CLUSTER_SPECS:
        for _, made in of_kind(kind):
            kinds.setdefault(made["metadata"]["name"], set()).add(kind)
    assert {name: own for name, own in kinds.items() if len(own) > 1} == {}


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


# The guide


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_the_guide_names_every_folder_that_is_applied(folder: Path) -> None:
    if folder.name != "cluster":
        assert str(folder.relative_to(ROOT)) in GUIDE


def test_the_guide_names_folders_that_exist() -> None:
    named = re.findall(r"(?:jobs|serve)/kubernetes/[\w/.-]*\w", GUIDE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
