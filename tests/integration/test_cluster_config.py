"""cluster.yaml, held against Ray's own validator and against what the project promises of it."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def prepared() -> dict[str, Any]:
    """The file as `ray up` sees it: merged with the defaults of the provider."""
    return prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


def is_spot(node_type: dict[str, Any]) -> bool:
    return node_type["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"


def test_ray_accepts_the_file(prepared: dict[str, Any]) -> None:
    validate_config(prepared)


def test_ray_refuses_the_file_with_a_misspelt_key(prepared: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        validate_config(prepared | {"max_wokers": 3})


def test_the_head_is_on_demand_and_has_no_work_of_its_own(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert not is_spot(head)
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    (start,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    assert "--num-cpus=0" in start


def test_training_nodes_are_spot_machines_from_zero(prepared: dict[str, Any]) -> None:
    train = prepared["available_node_types"]["train"]
    assert is_spot(train)
    assert train["min_workers"] == 0
    assert train["max_workers"] > 1
    assert train["labels"] == {"pool": "train"}


def test_data_nodes_outlive_spot_machines(prepared: dict[str, Any]) -> None:
    data = prepared["available_node_types"]["data"]
    assert not is_spot(data)
    assert data["min_workers"] == 1


def test_all_limits_fit_into_the_cluster_limit(prepared: dict[str, Any]) -> None:
    most = sum(node_type["max_workers"] for node_type in prepared["available_node_types"].values())
    assert most == prepared["max_workers"]


def test_every_container_authenticates_by_the_mounted_token(config: dict[str, Any]) -> None:
    options = config["docker"]["run_options"]
    (path,) = [option.split("=")[1] for option in options if "RAY_AUTH_TOKEN_PATH" in option]
    assert "--env RAY_AUTH_MODE=token" in options
    assert path in config["file_mounts"]


def test_the_dashboard_is_not_open_to_the_network(prepared: dict[str, Any]) -> None:
    starts = prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"]
    assert not any("0.0.0.0" in line for line in starts)


def test_the_image_has_this_ray_on_the_python_of_the_lock_file(config: dict[str, Any]) -> None:
    assert config["docker"]["image"] == f"rayproject/ray:{ray.__version__}-py311-gpu"
    assert f"\nray=={ray.__version__} " in (ROOT / "requirements.lock").read_text()


def test_nodes_install_the_lock_file_and_no_nightly_wheel(prepared: dict[str, Any]) -> None:
    (mounted,) = [
        remote for remote, local in prepared["file_mounts"].items() if local == "requirements.lock"
    ]
    name = Path(mounted).name
    for commands in (prepared["head_setup_commands"], prepared["worker_setup_commands"]):
        assert any("--require-hashes" in line and name in line for line in commands)
        assert not any(".whl" in line for line in commands)
