"""The deployment that knows which bundle is served, and which jobs there are: one replica."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview

from expertree.config import fingerprint
from expertree.errors import ArtefactError, ExpertreeError, ResourceError
from expertree.orchestration.serving.handles import Handles
from expertree.orchestration.serving.jobs import call_table
from expertree.orchestration.serving.noted import note, noted
from expertree.orchestration.serving.replicas import ROUTER, build_release
from expertree.routing import AUTOMATIC
from expertree.serving.deployments import (
    GatewayConfig,
    ServingConfig,
    check_bundle,
)
from expertree.serving.jobs import JobTable
from expertree.serving.remote import Release, ReleaseEngine
from expertree.serving.replica_work import SELF_TEST_PX
from expertree.serving.updates import ReleaseUpdater, Served, State, UpdateStatus

CONTROL = "control"
"""Name of the deployment."""

DRAIN_EVERY_S = 1.0

STATUS_EVERY_S = 2.0
"""Seconds between requests for Serve's status. Each costs up to half a second of a core (it pickles
each deployment's request router anew), which replicas need while they start."""

START_S = 600.0
"""Most seconds that the replicas of a new bundle may take to start: an autoscaler may have to find
machines."""

_STATES: Mapping[str, State] = {"RUNNING": "up", "DEPLOY_FAILED": "failed"}
"""States of releases by what Serve says of their applications; all others are changing."""

_logger = logging.getLogger("ray.serve")


@serve.deployment(
    name=CONTROL,
    num_replicas=1,
    max_ongoing_requests=1000,
    ray_actor_options={"num_cpus": 0},  # it waits
)
class Control:
    """Starts releases beside each other, and tells gateways which one is current.

    The bundle comes as `user_config`, which Serve changes without a restart: `serve deploy` with
    another bundle reaches `reconfigure` here and touches no other replica. Versions of deployments
    within one application would not do: Serve replaces each deployment by itself, so that for a
    while routers of one bundle would choose among experts of another, and an old deployment is
    gone before its successor has shown that it works.
    """

    def __init__(self, config: ServingConfig) -> None:
        """Begin to find out what is served already.

        Args:
            config: Configuration of the application; its bundle is ignored here.
        """
        self._updates = ReleaseUpdater(_Applications(config))
        self._table = JobTable(config.http.jobs)
        self._adopted = asyncio.create_task(self._adopt())
        self._draining = asyncio.create_task(self._drain())
        self._persisting = asyncio.create_task(self._updates.persist())
        self._updating: set[asyncio.Task[UpdateStatus]] = set()

    async def reconfigure(self, user_config: dict[str, str]) -> None:
        """Begin to serve the bundle under the key `bundle`; return at once, and raise nothing.

        A failed `reconfigure` would have Serve restart this replica for ever. Serve calls it after
        each start of this replica too, with what `serve deploy` last gave: that is ignored where
        another bundle was asked for since.
        """
        if bundle := user_config.get("bundle"):
            task = asyncio.create_task(self._configure(bundle))
            self._updating.add(task)  # the event loop itself would not keep it alive
            task.add_done_callback(self._updating.discard)

    async def update(self, bundle: str) -> UpdateStatus:
        """Serve another bundle; return when it is served or has failed."""
        await self._adopted
        return _said(bundle, await self._updates.update(bundle))

    async def _configure(self, bundle: str) -> UpdateStatus:
        await self._adopted
        return _said(bundle, await self._updates.configure(bundle))

    async def status(self) -> UpdateStatus:
        """Return how far the last update is."""
        return self._updates.status()

    async def check_in(
        self, gateway: str, sends_to: str | None, in_use: frozenset[str]
    ) -> Release | None:
        """Note which releases a gateway uses; return the current one if it must switch to it."""
        current = self._updates.check_in(gateway, sends_to=sends_to, in_use=in_use)
        return None if current is None or current.app == sends_to else current

    async def jobs(self, method: str, arguments: tuple[Any, ...]) -> object:
        """Call a method of the table of jobs, for `SharedJobs`."""
        return call_table(self._table, method, arguments)

    async def _adopt(self) -> None:
        while True:
            try:
                await self._updates.adopt()
            except Exception:
                _logger.exception("releases that are up cannot be asked what they are yet")
            else:
                return
            await asyncio.sleep(DRAIN_EVERY_S)

    async def _drain(self) -> None:
        while True:
            await asyncio.sleep(DRAIN_EVERY_S)
            try:
                await self._updates.drain()
            except Exception:
                _logger.exception("an old bundle could not be taken down yet")


class _Applications:
    """The `Deployer` on Serve, where each release is an application with no route of its own."""

    def __init__(self, config: ServingConfig) -> None:
        self._config = config
        self._endpoint = serve.get_replica_context().app_name
        self._prefix = f"{self._endpoint}-bundle-"
        self._shape = fingerprint([config.router, config.pools])[:6]
        self._digests: dict[str, str] = {}

    async def name(self, bundle: str) -> str:
        digest = await asyncio.to_thread(check_bundle, bundle, self._config.pools)
        app = f"{self._prefix}{digest[:10]}-{self._shape}"
        self._digests[app] = digest
        return app

    def fits(self, app: str) -> bool:
        return app.endswith(f"-{self._shape}")

    async def deploy(self, app: str, bundle: str) -> Release:
        try:
            await self._start(app, bundle)
            release = await self.describe(app)
            await _restore_one(release)
        except ExpertreeError:
            raise
        except (RayError, RayServeException) as error:
            raise ResourceError(f"its replicas do not answer: {error}") from error
        return release

    async def states(self) -> Mapping[str, State]:
        applications = (await asyncio.to_thread(serve.status)).applications
        found = sorted(
            (own.last_deployed_time_s, app, own.status.value)
            for app, own in applications.items()
            if app.startswith(self._prefix) and own.status != "DELETING"
        )
        return {app: _STATES.get(status, "changing") for _, app, status in found}

    async def describe(self, app: str) -> Release:
        release: Release = await serve.get_deployment_handle(ROUTER, app).describe.remote()
        return release

    async def note(self, served: Served | None) -> None:
        await asyncio.to_thread(note, self._endpoint, served)

    async def noted(self) -> Served | None:
        return await asyncio.to_thread(noted, self._endpoint)

    async def remove(self, app: str) -> None:
        await asyncio.to_thread(serve.delete, app)

    async def _start(self, app: str, bundle: str) -> None:
        deadline_s, is_ours = time.monotonic() + START_S, False
        while (overview := await self._overview(app)) is None or overview.status != "RUNNING":
            if overview is None:
                await asyncio.to_thread(self._run, app, bundle)
                is_ours = True
            elif _has_failed(overview, is_new=is_ours):
                raise ResourceError(f"its replicas do not start: {_reason(overview)}")
            if time.monotonic() > deadline_s:
                raise ResourceError(
                    f"its replicas did not start within {START_S:g} s; a new bundle needs room "
                    "beside the old one: is the cluster large enough?"
                )
            await asyncio.sleep(STATUS_EVERY_S)

    def _run(self, app: str, bundle: str) -> None:
        application = build_release(bundle, self._digests[app], self._config)
        target = serve.RunTarget(application, name=app, route_prefix=None)
        serve.run_many(
            [target],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )

    async def _overview(self, app: str) -> ApplicationStatusOverview | None:
        return (await asyncio.to_thread(serve.status)).applications.get(app)


def _said(bundle: str, status: UpdateStatus) -> UpdateStatus:
    """Log why a bundle is not served, if so; return the status."""
    if status.problem is not None:
        _logger.error("%s is not served: %s", bundle, status.problem)
    return status


async def _restore_one(release: Release) -> None:
    """Restore a test image through all of a release, as gateways will.

    Raises:
        ArtefactError: If what comes back is not an image of its size.
    """
    config = GatewayConfig()
    engine = ReleaseEngine(Handles(config.retry_after_s), config)
    engine.switch(release)
    image = np.random.default_rng(0).integers(0, 256, (SELF_TEST_PX, SELF_TEST_PX, 3), np.uint8)
    restored = await engine.restore(image, AUTOMATIC)
    if restored.pixels.shape != image.shape:
        raise ArtefactError(f"{release.bundle} does not restore an image to its size")


def _has_failed(overview: ApplicationStatusOverview, *, is_new: bool) -> bool:
    """Return whether an application will not start.

    One that is unhealthy has lost replicas, which Serve starts again, unless it never had them.
    """
    return overview.status == "DEPLOY_FAILED" or (is_new and overview.status == "UNHEALTHY")


def _reason(overview: ApplicationStatusOverview) -> str:
    """Return why an application failed: the last error that one of its deployments names."""
    text = "\n".join([overview.message, *(own.message for own in overview.deployments.values())])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    return (named or lines or [overview.status.value])[-1]
