"""An application of Ray Serve that runs as soon as the endpoint answers, and then does nothing.

KubeRay sends requests to a new cluster when all applications in its file for Serve run. The
endpoint's own runs before its bundle is loaded, as it outlives every bundle; with this one beside
it, the old cluster keeps the requests until the new one can answer them.
"""

import asyncio
import contextlib
import logging
from typing import Any, cast

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from expertree.orchestration.serving.app import APP
from expertree.orchestration.serving.control import CONTROL
from expertree.orchestration.serving.gateway import CHECK_IN_EVERY_S
from expertree.serving.updates import UpdateStatus

_logger = logging.getLogger("ray.serve")


@serve.deployment(name="ready", num_replicas=1, ray_actor_options={"num_cpus": 0})
class Ready:
    """Has started when a bundle is served and gateways send to it."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        """Wait for the endpoint's first bundle, for as long as it takes.

        One that cannot be served is named in the log, and waited on: another may be given.
        """
        told = None
        while (status := await _status()) is None or status.serving is None:
            if status is not None and status.problem not in {None, told}:
                told = status.problem
                _logger.error("not ready: %s is not served: %s", status.requested, told)
            await asyncio.sleep(CHECK_IN_EVERY_S)
        await asyncio.sleep(2 * CHECK_IN_EVERY_S)  # every gateway has asked meanwhile


async def _status() -> UpdateStatus | None:
    """Return what the endpoint serves; None if it is not there yet."""
    with contextlib.suppress(RayError, RayServeException):
        control: DeploymentHandle[Any] = serve.get_deployment_handle(CONTROL, APP)
        status: UpdateStatus = await control.status.remote()
        return status
    return None


application: serve.Application = cast("serve.Deployment", Ready).bind()
"""For `import_path` in a file for `serve deploy`."""
