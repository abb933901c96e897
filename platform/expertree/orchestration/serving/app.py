"""The application of Ray Serve: `build` for `serve deploy`, `serving` for a program of our own.

    gateway   answers HTTP: decodes, asks replicas, blends tiles, encodes; scales with requests
    control   knows the current bundle, starts the next one beside it, and holds the table of jobs

and, for each bundle, an application of its own (`replicas.build_release`):

    router    runs the extractor and the routers, in batches
    pool-...  runs experts
"""

import contextlib
import dataclasses
import errno
import http.client
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from expertree.config import load
from expertree.errors import ConfigError, ResourceError
from expertree.orchestration.cluster import connect
from expertree.orchestration.serving.control import CONTROL, Control
from expertree.orchestration.serving.gateway import Gateway
from expertree.orchestration.serving.replicas import deployment
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.restorer.shipped import SHIPPED
from expertree.serving.deployments import ServeConfig, ServingConfig, check_bundle
from expertree.serving.settings import HttpConfig, check_binding
from expertree.serving.updates import UpdateStatus
from expertree.storage import Storage

APP = "expertree"
"""Name of the application, unless a file for `serve deploy` gives another."""

_POLL_EVERY_S = 0.25
_READY_S = 120.0

_QUIET = {"enable_access_log": False, "log_level": "WARNING"}


def build(args: Mapping[str, Any]) -> serve.Application:
    """Make the application from the `args` in a file for `serve deploy`.

    Raises:
        ConfigError: If a key is unknown or a value cannot work; the message has its path.
    """
    return build_application(load(ServingConfig, args))


def build_application(config: ServingConfig) -> serve.Application:
    """Make the application of gateway and control from their configuration.

    Raises:
        ConfigError: If other machines can reach it, there are no keys, and this was not allowed.
    """
    check_binding(config.http)
    # Not even the gateway is made anew for another bundle: it comes as user_config, see Control.
    shape = dataclasses.replace(config, bundle="")
    control = cast("serve.Deployment", Control).options(
        user_config={"bundle": config.bundle}, logging_config=_QUIET
    )
    # A new gateway is there before the old one goes.
    gateway = deployment(Gateway, config.gateway, max_surge_percent=100)
    return gateway.bind(shape, control.bind(shape))


def url_of(config: ServingConfig) -> str:
    """Return the URL at which an application answers."""
    return f"http://{config.http.netloc}"


class RunningApplication:
    """An application that is served.

    Attributes:
        url: URL at which it answers.
        address: Address of the Ray cluster that it runs on.
    """

    def __init__(self, url: str) -> None:
        """Get a handle on the application's control.

        Args:
            url: URL at which it answers.
        """
        self.url = url
        self.address: str = ray.get_runtime_context().gcs_address
        self._control: DeploymentHandle[Any] = serve.get_deployment_handle(CONTROL, APP)

    def update(self, bundle: str) -> UpdateStatus:
        """Serve another bundle; return when it is served or has failed."""
        status: UpdateStatus = self._control.update.remote(bundle).result()
        return status

    def status(self) -> UpdateStatus:
        """Return what is served, and how the last update went."""
        status: UpdateStatus = self._control.status.remote().result()
        return status

    def wait(self) -> None:
        """Wait until requests are answered.

        Raises:
            ResourceError: If the first bundle cannot be served, or not at the URL; says why.
        """
        while (status := self.status()).serving is None:
            if status.problem is not None:
                raise ResourceError(f"{status.requested} is not served: {status.problem}")
            time.sleep(_POLL_EVERY_S)
        deadline_s = time.monotonic() + _READY_S
        while not self._is_ready():  # the gateway hears of it a moment later
            if time.monotonic() > deadline_s:
                raise ResourceError(
                    f"nothing is ready at {self.url} after {_READY_S:g} s; if this cluster serves "
                    "something else already, its host and port hold: give the same ones"
                )
            time.sleep(_POLL_EVERY_S)

    def _is_ready(self) -> bool:
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
        return False


def refuse_taken(config: HttpConfig) -> None:
    """Raise unless one can listen at an address; Serve would share it with whoever does.

    Raises:
        ResourceError: If something listens there, or nobody may; says what to do.
    """
    family = socket.AF_INET6 if ":" in config.bind_host else socket.AF_INET
    try:
        socket.create_server((config.bind_host, config.port), family=family).close()
    except OSError as error:
        taken = "; if it is expertree's, update=true address=... gives it the bundle"
        raise ResourceError(
            f"nothing can listen on {config.netloc}: {error.strerror}; choose another port by "
            f"http.port={config.port + 1}{taken if error.errno == errno.EADDRINUSE else ''}"
        ) from error


@contextlib.contextmanager
def serving(config: ServeConfig) -> Iterator[RunningApplication]:
    """Serve an application for the block, on a private cluster or a running one.

    At its end requests that have begun are answered, see `_end`.

    Raises:
        ConfigError: If no bundle is given.
        ArtefactError: If this machine is to serve it, and it is no bundle or damaged.
        ResourceError: If something listens there already, the cluster cannot be reached, or the
            bundle cannot be served.
    """
    application = dataclasses.replace(config.application, bundle=_for_the_cluster(config.bundle))
    check_binding(application.http)
    if config.address is None and "RAY_ADDRESS" not in os.environ:  # else Serve may be there
        refuse_taken(config.http)
        check_bundle(application.bundle, application.pools)
    cluster = ClusterConfig(address=config.address, num_cores=config.num_cores, dashboard=False)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with connect(cluster):
        _listen(config.http)
        try:
            serve.run(build_application(application), name=APP)
            running = RunningApplication(url_of(config))
            running.wait()
            yield running
        finally:
            _end()


def _listen(config: HttpConfig) -> None:
    """Start Serve with its HTTP proxy on the head.

    Raises:
        ResourceError: If the proxy does not come within the minute that Serve waits for it.
    """
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": config.bind_host, "port": config.port},
            logging_config=_QUIET,
        )
    except (RayError, TimeoutError) as error:
        raise ResourceError(
            f"Ray Serve's HTTP proxy on {config.netloc} did not start in time: the "
            "machine may be busy with other work; try again when it is not"
        ) from error


def _end() -> None:
    """End what is served: gateways answer what they have begun while the experts are still there.

    They get the gateways' `drain_s`, and at most the minute that Serve waits for them.
    """
    with contextlib.suppress(TimeoutError, RayError, RayServeException):  # or it is gone already
        serve.delete(APP)
    serve.shutdown()  # type: ignore[no-untyped-call]


def update_running(config: ServeConfig) -> UpdateStatus:
    """Have an application that is running on a cluster serve another bundle.

    Raises:
        ConfigError: If no bundle is given.
        ResourceError: If the cluster cannot be reached, or nothing is served there.
    """
    bundle = _for_the_cluster(config.bundle)
    with connect(ClusterConfig(address=config.address or "auto")):
        if APP not in serve.status().applications:
            raise ResourceError(f"nothing is served there under the name '{APP}'")
        return RunningApplication(url_of(config)).update(bundle)


def _for_the_cluster(bundle: str) -> str:
    """Return what names a bundle in every process: a path made absolute, any other name as it is.

    Raises:
        ConfigError: If none is given.
    """
    if not bundle:
        raise ConfigError("give bundle=..., a directory or a URI that every node sees")
    return bundle if bundle == SHIPPED or "://" in bundle else Storage.open(bundle).uri
