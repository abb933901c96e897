"""The Kubernetes manifests, rendered, and what tests ask of them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kustomized import Object, folders, render

ROOT = Path(__file__).parents[1]
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


def pod_specs(node: Any) -> Iterator[Object]:
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for value in node.values():
            yield from pod_specs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_specs(value)


def referenced(node: Any, key: str) -> Iterator[Object]:
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for value in node.values():
            yield from referenced(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from referenced(value, key)


def all_pods() -> list[dict[str, str]]:
    return [
        labels
        for objects in RENDERED.values()
        for made in objects
        for labels in labels_of_pods(made)
    ]
