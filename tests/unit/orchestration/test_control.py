"""What control does with Serve, on one that is made up."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from expertree.errors import ResourceError
from expertree.orchestration.serving import control, noted
from expertree.serving.deployments import (
    GatewayConfig,
    PoolConfig,
    RouterReplicas,
    ServingConfig,
)
from expertree.serving.updates import Served
from releases import release

Overview: Any = control.ApplicationStatusOverview
Status: Any = get_type_hints(Overview)["status"]


class Serve:
    """Applications, each with what Serve says of it, one answer after the other."""

    def __init__(self, **said: Sequence[str | None]) -> None:
        self.said = {f"e-bundle-{name}": list(answers) for name, answers in said.items()}
        self.started: list[Any] = []

    def get_replica_context(self) -> Any:
        return SimpleNamespace(app_name="e")

    def status(self) -> Any:
        now = {
            app: answers.pop(0) if len(answers) > 1 else answers[0]
            for app, answers in self.said.items()
        }
        return SimpleNamespace(
            applications={
                app: Overview(Status(name), "why", 10.0 - number, {})
                for number, (app, name) in enumerate(now.items())
                if name is not None
            }
        )

    def run_many(self, targets: Sequence[Any], **_: object) -> None:
        self.started += [target.application for target in targets]

    def RunTarget(self, application: Any, **_: object) -> Any:  # noqa: N802 - Serve's
        return SimpleNamespace(application=application)


def applications(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, config: ServingConfig | None = None
) -> Any:
    monkeypatch.setattr(control, "serve", serve)
    monkeypatch.setattr(control, "STATUS_EVERY_S", 0.0)
    monkeypatch.setattr(control, "build_release", lambda bundle, digest, _: [bundle, digest])
    return control._Applications(config or ServingConfig())


def test_all_releases_are_found_but_those_on_their_way_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve = Serve(
        new=["DEPLOYING"], hurt=["UNHEALTHY"], up=["RUNNING"], bad=["DEPLOY_FAILED"], x=["DELETING"]
    )
    serve.said["another"] = ["RUNNING"]
    found = asyncio.run(applications(serve, monkeypatch).states())
    assert list(found.items()) == [
        ("e-bundle-bad", "failed"),
        ("e-bundle-up", "up"),
        ("e-bundle-hurt", "changing"),
        ("e-bundle-new", "changing"),
    ]


@pytest.mark.parametrize("before", ["UNHEALTHY", "DEPLOYING"])
def test_a_release_that_was_there_is_waited_for_until_its_replicas_are_back(
    monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    serve = Serve(one=[before, before, "RUNNING"])
    asyncio.run(applications(serve, monkeypatch)._start("e-bundle-one", "one"))
    assert serve.started == []


@pytest.mark.parametrize(
    "said", [[None, "DEPLOYING", "DEPLOY_FAILED"], [None, "UNHEALTHY"], ["DEPLOY_FAILED"]]
)
def test_a_release_that_cannot_start_is_told(
    monkeypatch: pytest.MonkeyPatch, said: list[str | None]
) -> None:
    serve = Serve(one=said)
    found = applications(serve, monkeypatch)
    found._digests["e-bundle-one"] = "0" * 64
    with pytest.raises(ResourceError, match="its replicas do not start: why"):
        asyncio.run(found._start("e-bundle-one", "one"))
    assert serve.started == [["one", "0" * 64]] * (said[0] is None)


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        (ServingConfig(gateway=GatewayConfig(max_replicas=2)), True),
        (ServingConfig(pools=(PoolConfig(max_replicas=2),)), False),
        (ServingConfig(router=RouterReplicas(max_replicas=2)), False),
    ],
)
def test_a_release_fits_as_long_as_its_replicas_are_given_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, given: ServingConfig, fits: bool
) -> None:
    monkeypatch.setattr(control, "check_bundle", lambda *_: "0" * 64)
    app = asyncio.run(applications(Serve(), monkeypatch).name("one"))
    assert applications(Serve(), monkeypatch, given).fits(app) == fits


def test_what_is_served_is_known_as_long_as_the_cluster_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept: dict[str, bytes] = {}

    def put(key: str, value: bytes, *, namespace: str) -> None:
        kept[namespace + key] = value

    monkeypatch.setattr(noted, "_internal_kv_put", put)
    monkeypatch.setattr(noted, "_internal_kv_get", lambda k, *, namespace: kept.get(namespace + k))
    monkeypatch.setattr(noted, "_internal_kv_del", lambda k, *, namespace: kept.pop(namespace + k))
    before = applications(Serve(), monkeypatch)
    assert asyncio.run(before.noted()) is None
    served = Served(release=release("app-one"), configured="two")
    asyncio.run(before.note(served))
    assert asyncio.run(applications(Serve(), monkeypatch).noted()) == served
    assert noted.noted("another") is None
    (key,) = kept
    kept[key] = b"of another version"
    assert noted.noted("e") is None
    assert "cannot be read" in caplog.text
    noted.note("e", None)
    assert kept == {}
