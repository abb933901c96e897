"""The part of Kustomize that the manifests use, so that they are tested where no kubectl is.

Whatever it does not know is an error. Where kubectl is, a test holds it against
`kubectl kustomize`.
"""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

LOCAL = "config.kubernetes.io/local-config"
"""Annotation of what others are made from and is not applied itself."""

KINDS = ("kustomize.config.k8s.io/v1beta1", "kustomize.config.k8s.io/v1alpha1")


def render(folder: Path) -> list[Object]:
    """Return the objects that `kubectl apply -k` sends for a folder."""
    return [
        made
        for made in _built(folder, [])
        if made["metadata"].get("annotations", {}).get(LOCAL) != "true"
    ]


def folders(root: Path) -> list[Path]:
    """Return the folders that are applied, or that others are made from, without components."""
    files = sorted(root.rglob("kustomization.yaml"))
    return [path.parent for path in files if _read(path)["kind"] == "Kustomization"]


def pointed(node: Any, pointer: str) -> Any:
    """Return what a JSON pointer points to."""
    for key in _keys(pointer):
        node = node[int(key)] if isinstance(node, list) else node[key]
    return node


def _built(folder: Path, given: list[Object]) -> list[Object]:
    settings = _read(folder / "kustomization.yaml")
    assert settings.pop("apiVersion") in KINDS
    # A component works on what was made before it, a kustomization on its own.
    objects = given if settings.pop("kind") == "Component" else []
    for name in settings.pop("resources", []):
        path = (folder / name).resolve()
        objects = objects + (_built(path, []) if path.is_dir() else _documents(path))
    for name in settings.pop("components", []):
        objects = _built((folder / name).resolve(), objects)
    for key, step in _STEPS.items():
        if (wanted := settings.pop(key, None)) is not None:
            objects = step(objects, wanted, folder)
    assert settings == {}, f"{folder} has keys that the tests do not know: {sorted(settings)}"
    return objects


def _config_maps(objects: list[Object], wanted: list[Object], _folder: Path) -> list[Object]:
    for generator in wanted:
        data = dict(literal.split("=", 1) for literal in generator["literals"])
        if generator.get("behavior") == "merge":
            (found,) = [
                made
                for made in objects
                if (made["kind"], made["metadata"]["name"]) == ("ConfigMap", generator["name"])
            ]
            found["data"] |= data
        else:
            # With a hash in its name, custom resources would not find it.
            assert generator["options"] == {"disableNameSuffixHash": True}
            name = {"name": generator["name"]}
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": data}
            objects = [*objects, made]
    return objects


def _patched(objects: list[Object], wanted: list[Object], folder: Path) -> list[Object]:
    for patch in wanted:
        text = patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text()
        targets = [made for made in objects if made["kind"] == patch["target"]["kind"]]
        assert targets, f"{folder}: no {patch['target']} to patch"
        for target in targets:
            for operation in yaml.safe_load(text):
                _apply(target, **operation)
    return objects


def _apply(target: Object, *, op: str, path: str, value: Any = None) -> None:
    parent_path, _, last = path.rpartition("/")
    parent, key = pointed(target, parent_path), _unescaped(last)
    if op == "add" and isinstance(parent, list):
        parent.insert(len(parent) if key == "-" else int(key), copy.deepcopy(value))
        return
    place = int(key) if isinstance(parent, list) else key
    if op == "add":
        parent[place] = copy.deepcopy(value)
        return
    there = parent[place]  # an error if it is not
    if op == "test":
        assert there == value, f"{path} is {there!r}, not {value!r}"
    elif op == "replace":
        parent[place] = copy.deepcopy(value)
    else:
        assert op == "remove", op
        del parent[place]


def _in_namespace(objects: list[Object], wanted: str, _folder: Path) -> list[Object]:
    for made in objects:
        if made["kind"] not in {"Namespace", "PersistentVolume"}:
            made["metadata"]["namespace"] = wanted
    return objects


def _with_images(objects: list[Object], wanted: list[Object], _folder: Path) -> list[Object]:
    for container in (each for made in objects for each in containers(made)):
        name, _, tag = container["image"].partition(":")
        for image in wanted:
            if name == image["name"]:
                tag = image.get("newTag", tag)
                container["image"] = image["newName"] + (f":{tag}" if tag else "")
    return objects


def _replaced(objects: list[Object], wanted: list[Object], _folder: Path) -> list[Object]:
    for replacement in wanted:
        source = replacement["source"]
        (found,) = [made for made in objects if made["kind"] == source["kind"]]
        value = pointed(found, "/" + source["fieldPath"].replace(".", "/"))
        for target in replacement["targets"]:
            (changed,) = [made for made in objects if made["kind"] == target["select"]["kind"]]
            assert target["options"] == {"create": True}
            for path in target["fieldPaths"]:
                _apply(changed, op="add", path="/" + path.replace(".", "/"), value=value)
    return objects


# In Kustomize's order.
_STEPS: dict[str, Callable[[list[Object], Any, Path], list[Object]]] = {
    "configMapGenerator": _config_maps,
    "patches": _patched,
    "namespace": _in_namespace,
    "images": _with_images,
    "replacements": _replaced,
}


def containers(node: Any) -> Iterator[Object]:
    """Yield all containers at any depth of an object."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"containers", "initContainers"}:
                yield from value
            else:
                yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def _read(path: Path) -> Object:
    read: Object = yaml.safe_load(path.read_text())
    return read


def _documents(path: Path) -> list[Object]:
    # Each a copy: in what PyYAML reads, places with one anchor are one object.
    return [copy_of(made) for made in yaml.safe_load_all(path.read_text())]


def copy_of(node: Any) -> Any:
    """Return a copy in which no two places are one object."""
    if isinstance(node, dict):
        return {key: copy_of(value) for key, value in node.items()}
    return [copy_of(value) for value in node] if isinstance(node, list) else node


def _keys(pointer: str) -> list[str]:
    return [_unescaped(key) for key in pointer.split("/")[1:]]


def _unescaped(key: str) -> str:
    return key.replace("~1", "/").replace("~0", "~")
