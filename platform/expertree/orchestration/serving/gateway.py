"""The deployment that answers HTTP requests."""

import asyncio
import logging
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from expertree.orchestration.serving.handles import Handles
from expertree.orchestration.serving.jobs import SharedJobs
from expertree.orchestration.serving.metrics import RayMetrics
from expertree.serving.deployments import ServingConfig
from expertree.serving.http.app import create_app
from expertree.serving.remote import Release, ReleaseEngine

CHECK_IN_EVERY_S = 1.0
"""Seconds between a gateway's questions for the current release."""

_logger = logging.getLogger("ray.serve")


@serve.deployment(name="gateway")
@serve.ingress()
class Gateway:
    """A replica that serves the HTTP contract with the replicas of the current release."""

    def __init__(self, config: ServingConfig, control: DeploymentHandle[Any]) -> None:
        """Begin to ask for the current release, again and again.

        Args:
            config: Configuration of the application.
            control: Handle on the deployment that knows which release is current.
        """
        self._config, self._control = config, control
        self._handles = Handles(config.gateway.retry_after_s)
        self._engine = ReleaseEngine(self._handles, config.gateway)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._checking_in = asyncio.create_task(self._check_in())

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the FastAPI application that answers requests."""
        jobs = SharedJobs(self._control)
        return create_app(
            self._engine,
            self._config.http,
            jobs=jobs,
            metrics=RayMetrics(),
            echoes_id=False,  # Serve's proxy adds the same one
        )

    async def _check_in(self) -> None:
        while True:
            try:
                current = self._engine.current
                release: Release | None = await self._control.check_in.remote(
                    self._name,
                    current.app if current is not None else None,
                    frozenset(self._engine.in_use()),
                )
                if release is not None:
                    self._handles.open(release)
                    self._engine.switch(release)
                    self._handles.forget({release.app, *self._engine.in_use()})
            except Exception:
                _logger.exception("control does not answer; what is served stays as it is")
            await asyncio.sleep(CHECK_IN_EVERY_S)
