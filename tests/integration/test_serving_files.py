"""The files for `serve deploy` are what the application and Serve itself accept."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from expertree.config import load
from expertree.errors import ConfigError
from expertree.orchestration.serving import ready
from expertree.orchestration.serving.app import APP, build
from expertree.serving.deployments import ServingConfig
from kustomized import folders, render

SERVE = Path(__file__).parents[2] / "serve"
FILES = {path.stem: path.read_text() for path in sorted(SERVE.glob("*.yaml"))}
IN_MANIFESTS = {
    f"kubernetes-{folder.name}": made["spec"]["serveConfigV2"]
    for folder in folders(SERVE / "kubernetes")
    for made in render(folder)
    if made["kind"] == "RayService"
}


@pytest.mark.parametrize("name", [*FILES, *IN_MANIFESTS])
def test_a_file_is_what_serve_and_the_application_accept(name: str) -> None:
    data: dict[str, Any] = yaml.safe_load((FILES | IN_MANIFESTS)[name])
    ServeDeploySchema.model_validate(data)
    application, *others = data["applications"]
    assert application["name"] == APP
    assert application["import_path"] == f"{build.__module__}:{build.__name__}"
    config = load(ServingConfig, application["args"])
    listening = data["http_options"]
    assert (config.http.host, config.http.port) == (listening["host"], listening["port"])
    build(application["args"])
    (control,) = application["deployments"]
    assert control["name"] == "control"
    assert set(control["user_config"]) == {"bundle"}
    # KubeRay waits for all applications: one of them for the bundle.
    assert [other["import_path"] for other in others] == [
        f"{ready.__name__}:application" for _ in others
    ]
    assert bool(others) == (name in IN_MANIFESTS)
    assert isinstance(ready.application, Application)


def test_a_misspelt_key_in_a_file_is_named_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'pools\.0\.min_replicas'"):
        build({"pools": [{"min_replica": 0}]})


def test_nobody_listens_to_strangers_without_keys() -> None:
    with pytest.raises(ConfigError, match=r"host 0\.0\.0\.0 can be reached by others"):
        build({"http": {"host": "0.0.0.0"}})


def test_the_dashboard_shows_what_gateways_and_replicas_count() -> None:
    sources = Path(__file__).parents[2] / "platform" / "expertree" / "orchestration" / "serving"
    counted = "".join(path.read_text() for path in sources.glob("*.py"))
    panels = json.loads((SERVE / "grafana.json").read_text())["panels"]
    shown = {
        word.removeprefix("ray_").split("{")[0]
        for panel in panels
        for target in panel["targets"]
        for word in target["expr"].replace("(", " ").replace("[", " ").split()
        if word.startswith("ray_expertree_")
    }
    assert shown
    for name in shown:
        base = name.removesuffix("_total").removesuffix("_bucket")
        base = base.removesuffix("_sum").removesuffix("_count")
        assert f'"{base}"' in counted, name
