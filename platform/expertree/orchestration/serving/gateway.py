"""The deployment that speaks HTTP."""

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
"""How soon a gateway hears of another bundle."""

_logger = logging.getLogger("ray.serve")


@serve.deployment(name="gateway")
@serve.ingress()
class Gateway:
    """A replica of the HTTP contract, over the replicas of the current release."""

    def __init__(self, config: ServingConfig, control: DeploymentHandle[Any]) -> None:
        """Ask for the current release, and go on asking.

        Args:
            config: Of the application.
            control: Knows which release is current.
        """
        self._config, self._control = config, control
        self._handles = Handles(config.gateway.retry_after_s)
        self._engine = ReleaseEngine(self._handles, config.gateway)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._checking_in = asyncio.create_task(self._check_in())

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application that answers."""
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
                    self._engine.switch(release)
                    self._handles.forget({release.app, *self._engine.in_use()})
            except Exception:
                _logger.exception("control does not answer; what is served stays as it is")
            await asyncio.sleep(CHECK_IN_EVERY_S)
