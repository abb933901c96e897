"""Calls to the replicas of a release, over Serve's handles."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from expertree.errors import ExpertreeError, OverloadError, UnavailableError
from expertree.orchestration.serving.replicas import ROUTER
from expertree.serving.remote import Release, ReplicaLostError
from expertree.serving.replica_work import Judged, RouteRequest, Tile, TileResult


class Handles:
    """The `Backend` of gateways, which calls replicas over Serve's handles."""

    def __init__(self, retry_after_s: float) -> None:
        """Begin without a handle.

        Args:
            retry_after_s: Seconds after which requests that are refused may come again.
        """
        self._retry_after_s = retry_after_s
        self._handles: dict[tuple[str, str], DeploymentHandle[Any]] = {}

    async def judge(self, release: Release, request: RouteRequest) -> Judged | ExpertreeError:
        """Have a router replica choose the expert for an image."""
        with self._named_errors():
            handle = self._handle(release, ROUTER)
            answer: Judged | ExpertreeError = await handle.judge.remote(request)
            return answer

    async def restore(self, release: Release, tile: Tile) -> TileResult:
        """Have a replica of the expert's pool restore a tile."""
        with self._named_errors():
            pool = release.pools[tile.expert]
            handle = self._handle(release, pool)
            if pool in release.multiplexed:
                handle = handle.options(multiplexed_model_id=str(tile.expert))
            done: TileResult = await handle.restore.remote(tile)
            return done

    def open(self, release: Release) -> None:
        """Have the replicas of a release known before its first request.

        Serve's controller says which they are, and it may be away by then: a handle that nobody has
        asked for them waits until it is back.
        """
        for deployment in {ROUTER, *release.pools.values()}:
            self._handle(release, deployment)

    def forget(self, keep: set[str]) -> None:
        """Drop the handles of releases that are gone.

        Args:
            keep: Applications of the releases that are not.
        """
        self._handles = {key: handle for key, handle in self._handles.items() if key[0] in keep}

    def _handle(self, release: Release, deployment: str) -> DeploymentHandle[Any]:
        key = release.app, deployment
        if key not in self._handles:
            handle = serve.get_deployment_handle(deployment, release.app, _check_exists=False)
            self._handles[key] = handle.options()  # which asks for its replicas
        return self._handles[key]

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turn Serve's errors, in the block, into errors that engines know."""
        try:
            yield
        except BackPressureError as error:
            raise OverloadError(
                "too many images wait for their expert; come back in a moment", self._retry_after_s
            ) from error
        except (ActorDiedError, ActorUnavailableError, ReplicaUnavailableError) as error:
            raise ReplicaLostError(str(error).partition("\n")[0]) from error
        except DeploymentUnavailableError as error:
            raise UnavailableError(
                "replicas of the model cannot be started; its operator is told why by `serve "
                "status`",
                self._retry_after_s,
            ) from error
