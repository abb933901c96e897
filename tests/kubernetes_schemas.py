"""What Kubernetes accepts: the published schemas, made strict, and small ones for its own kinds."""

import functools
import gzip
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kustomized import Object, copy_of

PUBLISHED = {
    "RayCluster": "ray.io_rayclusters",
    "RayJob": "ray.io_rayjobs",
    "RayService": "ray.io_rayservices",
    "ClusterQueue": "kueue.x-k8s.io_clusterqueues",
    "LocalQueue": "kueue.x-k8s.io_localqueues",
    "ResourceFlavor": "kueue.x-k8s.io_resourceflavors",
}


def folder() -> Path:
    """Return the folder of the CRDs of KubeRay and Kueue; skip the test without it."""
    found = Path(os.environ.get("EXPERTREE_DATA", "")) / "kuberay"
    if "EXPERTREE_DATA" not in os.environ or not found.is_dir():
        pytest.skip("the schemas of KubeRay and Kueue are where EXPERTREE_DATA says: kuberay/*.gz")
    return found


@functools.cache
def definition(kind: str) -> Object:
    """Return the CustomResourceDefinition of a kind."""
    data = gzip.decompress((folder() / f"{PUBLISHED[kind]}.yaml.gz").read_bytes())
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read: Object = yaml.load(data, Loader=loader)
    return read["spec"]


@functools.cache
def validator(kind: str, version: str) -> jsonschema.Draft7Validator:
    """Return a validator of a kind, which refuses fields that the schema does not have."""
    if kind not in PUBLISHED:
        return jsonschema.Draft7Validator(_strict(_built_in(kind)))
    (found,) = [each for each in definition(kind)["versions"] if each["name"] == version]
    assert found["served"]
    assert not found.get("deprecated")
    return jsonschema.Draft7Validator(_strict(found["schema"]["openAPIV3Schema"]))


def problems(made: Object) -> list[str]:
    """Return what Kubernetes would refuse in an object, with its paths."""
    found = validator(made["kind"], made["apiVersion"].rpartition("/")[2]).iter_errors(made)
    return [f"{error.json_path}: {error.message}" for error in found]


def _strict(schema: Any) -> Any:
    """Refuse unknown fields, and read `x-kubernetes-int-or-string`, which JSON Schema lacks."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: _strict(value) for key, value in schema.items() if key != "properties"}
    if isinstance(schema.get("properties"), dict):
        fields = {name: _strict(each) for name, each in schema["properties"].items()}
        if schema.get("type") == "object" and "apiVersion" in fields:  # the top: CRDs leave it open
            fields["metadata"] = _strict(_METADATA)
        made["properties"] = fields
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made


def _map(**fields: Any) -> Object:
    return {"type": "object", "properties": fields}


def _all(**fields: Any) -> Object:
    return {**_map(**fields), "required": sorted(fields)}


def _list(of: Object) -> Object:
    return {"type": "array", "items": of, "minItems": 1}


_TEXT: Object = {"type": "string"}
_TRUE: Object = {"type": "boolean"}
_NUMBER: Object = {"type": "integer"}
_TEXTS: Object = {"type": "object", "additionalProperties": _TEXT}
_METADATA = {
    **_map(name=_TEXT, namespace=_TEXT, labels=_TEXTS, annotations=_TEXTS),
    "required": ["name"],
}
_SELECTOR = _all(matchLabels=_TEXTS)


def _cluster(path: str) -> Object:
    """Part of RayCluster's schema: built-in kinds are in it."""
    node = definition("RayCluster")["versions"][0]["schema"]["openAPIV3Schema"]
    for key in ("spec", *path.split(".")):
        node = node["properties"][key]
    return copy_of(node)


def _built_in(kind: str) -> Object:
    version = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": _METADATA}
    if kind in {"Namespace", "ServiceAccount"}:
        return _all(**version)
    if kind == "ConfigMap":
        return _all(**version, data=_TEXTS)
    return _all(**version, spec=_SPECS[kind]())


_STORAGE = _all(storage=_TEXT)

_SPECS = {
    "PersistentVolume": lambda: _all(
        capacity=_STORAGE,
        accessModes=_list({"enum": ["ReadOnlyMany"]}),
        persistentVolumeReclaimPolicy={"enum": ["Retain", "Delete"]},
        storageClassName=_TEXT,
        nfs=_all(server=_TEXT, path=_TEXT, readOnly=_TRUE),
    ),
    "PersistentVolumeClaim": lambda: _all(
        accessModes=_list({"enum": ["ReadOnlyMany"]}),
        storageClassName=_TEXT,
        volumeName=_TEXT,
        resources=_all(requests=_STORAGE),
    ),
    "NetworkPolicy": lambda: _all(
        podSelector=_SELECTOR,
        policyTypes=_list({"enum": ["Ingress", "Egress"]}),
        ingress=_cluster("networkPolicy.head.ingressRules"),
    ),
    # Only whole numbers are allowed where a pod's owner has no scale, as KubeRay's.
    "PodDisruptionBudget": lambda: _all(minAvailable=_NUMBER, selector=_SELECTOR),
    "PodMonitor": lambda: _all(
        selector=_SELECTOR,
        podMetricsEndpoints=_list(
            _all(
                port=_TEXT,
                relabelings=_list(_all(sourceLabels=_list(_TEXT), targetLabel=_TEXT)),
            )
        ),
    ),
    "Service": lambda: _all(selector=_TEXTS, ports=_list(_all(name=_TEXT, port=_NUMBER))),
    "StatefulSet": lambda: _all(
        serviceName=_TEXT,
        replicas=_NUMBER,
        selector=_SELECTOR,
        template=_cluster("headGroupSpec.template"),
        volumeClaimTemplates=_list(
            _all(
                metadata=_METADATA,
                spec=_all(accessModes=_list(_TEXT), resources=_all(requests=_STORAGE)),
            )
        ),
    ),
}
