"""The Dockerfile, as far as it can be read; `test_the_image_without_docker` does its steps."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
STEPS = [
    line
    for line in (ROOT / "serve" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def of(instruction: str, steps: list[str] = STEPS) -> list[str]:
    return [
        line.removeprefix(instruction).strip() for line in steps if line.startswith(instruction)
    ]


def stage(name: str) -> list[str]:
    (begin,) = [index for index, line in enumerate(STEPS) if line.endswith(f" AS {name}")]
    length = next(
        (n for n, line in enumerate(STEPS[begin + 1 :]) if line.startswith("FROM ")), None
    )
    return STEPS[begin + 1 :][:length]


def test_both_targets_come_from_a_public_image_without_the_tools_of_the_first_stage() -> None:
    assert of("FROM ") == [
        "python:3.12-slim AS build",
        "python:3.12-slim AS cpu",
        "cpu AS gpu",
    ]
    assert of("COPY ", stage("cpu")) == ["--from=build /opt/expertree /opt/expertree"]
    assert not any("install" in step for step in of("RUN ", stage("cpu") + stage("gpu")))


def test_packages_are_those_of_the_lock_file_by_its_hashes() -> None:
    (tools, packages) = of("RUN ", stage("build"))
    assert "--require-hashes" in tools
    assert "--constraint requirements.lock" in packages
    assert not any("://" in step for step in STEPS)


def test_it_runs_as_the_user_of_the_manifests_in_the_home_that_they_mount() -> None:
    manifest = ROOT / "jobs" / "kubernetes" / "cluster" / "cluster.yaml"
    pod = yaml.safe_load(manifest.read_text())["spec"]["headGroupSpec"]["template"]["spec"]
    user, group = pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]
    assert of("USER ", stage("cpu")) == [f"{user}:{group}"]
    assert of("USER ", stage("gpu")) == []
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert set(of("WORKDIR ", stage("cpu"))) <= mounts


def test_what_is_copied_is_not_ignored_and_exists() -> None:
    ignore = (ROOT / "serve" / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert all((ROOT / name).exists() for name in kept)
    copied = {
        name
        for step in of("COPY ", stage("build"))
        for name in step.split()[:-1]
        if not name.startswith("--")
    }
    assert copied == kept


def test_a_pod_sees_only_the_gpus_that_it_was_given() -> None:
    assert not re.search(r"NVIDIA_VISIBLE_DEVICES", "\n".join(STEPS))
