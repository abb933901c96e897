"""Switch from one bundle to the next without an outage; independent of Ray.

A new bundle gets replicas of its own beside those of the old one. Only when they have read all of
it and restored an image do gateways send new requests there; the old ones stop when no gateway has
a request on them any more. A bundle that fails on the way is taken down again, and the old one
goes on serving.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from expertree.errors import ExpertreeError, ResourceError, TransientStorageError
from expertree.serving.remote import Release

SILENT_S = 15.0
"""Seconds after which a gateway that has not checked in is gone, with its requests."""


_POLL_EVERY_S = 0.1

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
"""Seconds before another try of a bundle where none is served; each pause is twice the last."""

_logger = logging.getLogger("ray.serve")

State: TypeAlias = Literal["up", "changing", "failed"]
"""Whether a release works as a whole, may do so later and perhaps in part now, or never will."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What an endpoint has to know again after a restart.

    Attributes:
        release: The release that gateways send requests to.
        configured: The bundle that the configuration named when that became so, which may have
            been asked for otherwise; None if it named none.
    """

    release: Release
    configured: str | None


class Deployer(Protocol):
    """Interface of whatever starts and stops releases."""

    async def name(self, bundle: str) -> str:
        """Return the name of a bundle's application; the same content gives the same name.

        Raises:
            ExpertreeError: If the bundle cannot be served at all.
        """
        ...

    def fits(self, app: str) -> bool:
        """Return whether a release has been put up with the present settings of its replicas."""
        ...

    async def deploy(self, app: str, bundle: str) -> Release:
        """Start a release unless it is there, wait until it is up, and check that it works.

        Args:
            app: Name of its application.
            bundle: Bundle that it serves.

        Raises:
            ExpertreeError: If it does not work.
        """
        ...

    async def states(self) -> Mapping[str, State]:
        """Return the states of all releases that are there, by application, the newest last."""
        ...

    async def describe(self, app: str) -> Release:
        """Return a release that is up."""
        ...

    async def note(self, served: Served | None) -> None:
        """Note what is served, for `noted` after a restart; None for nothing."""
        ...

    async def noted(self) -> Served | None:
        """Return what was noted last; None for nothing."""
        ...

    async def remove(self, app: str) -> None:
        """Stop a release, even if only part of it has started."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UpdateStatus:
    """The state of an update.

    Attributes:
        serving: The bundle that answers; None while there is none.
        requested: The bundle that was asked for last.
        problem: Why that one does not answer; None if it does, or if it still may.
        draining: Applications of old bundles whose requests are not done.
    """

    serving: str | None
    requested: str | None
    problem: str | None
    draining: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Gateway:
    sends_to: str | None
    in_use: frozenset[str]
    at_s: float


class ReleaseUpdater:
    """Keeps one release current, starts new ones and stops old ones."""

    def __init__(self, deployer: Deployer) -> None:
        """Begin without a release.

        Args:
            deployer: Starts and stops releases.
        """
        self._deployer = deployer
        self._current: Release | None = None
        self._requested: str | None = None
        self._configured: str | None = None
        self._problem: str | None = None
        self._may_pass = False
        self._old: set[str] = set()
        self._starting: str | None = None
        self._gateways: dict[str, _Gateway] = {}
        self._gateways_known_s = 0.0
        self._update_lock = asyncio.Lock()
        self._removal_lock = asyncio.Lock()

    @property
    def current(self) -> Release | None:
        """The release that gateways shall send requests to."""
        return self._current

    def status(self) -> UpdateStatus:
        """Return the state of the last update."""
        return UpdateStatus(
            serving=self._current.bundle if self._current is not None else None,
            requested=self._requested,
            problem=self._problem,
            draining=tuple(sorted(self._old - {self._starting})),
        )

    async def adopt(self) -> None:
        """Serve on what was served before a restart; all other releases that are there drain.

        A release that has lost replicas with the node that control ran on is served on, as gateways
        do. Without a note of what was served, it is the newest release that is up.
        """
        states, noted = await self._deployer.states(), await self._deployer.noted()
        if noted is not None and states.get(noted.release.app, "failed") == "failed":
            noted = None
            await self._deployer.note(None)  # what is put up under its name has to prove itself
        up = [app for app, state in states.items() if state == "up"]
        if noted is not None:
            self._current, self._configured = noted.release, noted.configured
        elif up:
            self._current = await self._deployer.describe(up[-1])
        if self._current is not None:
            self._requested = self._current.bundle
        self._old |= states.keys() - {self._app()}
        self._gateways_known_s = time.monotonic() + SILENT_S

    async def configure(self, bundle: str) -> UpdateStatus:
        """Serve the bundle that the configuration names, unless it named that one before.

        Serve gives the configuration again after each restart, which must not undo an update that
        was asked for since. What is served is put up anew if its replicas have other settings now.

        Returns:
            As `update`.
        """
        if bundle == self._configured:
            if self._current is None or self._deployer.fits(self._current.app):
                return self.status()
            return await self.update(self._current.bundle)
        self._configured = bundle
        return await self.update(bundle)

    async def update(self, bundle: str) -> UpdateStatus:
        """Serve another bundle, once updates asked for before have succeeded or failed.

        Returns:
            The status once all gateways send new requests to what is current; with the problem if
            the bundle could not be served.
        """
        self._requested, self._problem, self._may_pass = bundle, None, False
        configured = self._configured
        async with self._update_lock:
            if bundle == self._requested:
                await self._try(bundle, configured)
            status = self.status()
        while self._current is not None and self._gateways_lag():
            await asyncio.sleep(_POLL_EVERY_S)
        return status

    async def persist(self) -> None:
        """Try again what was asked for, as long as nothing is served for a reason that may pass.

        Where something is served, whoever asked for another bundle is told why it is not, and
        decides. This never returns.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            if self._current is not None or self._requested is None or not self._may_pass:
                pause_s = FIRST_PAUSE_S
                continue
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            bundle = self._requested
            if (await self.update(bundle)).problem is not None:
                _logger.error("%s is not served yet; the next try is in %g s", bundle, pause_s)

    def check_in(
        self, gateway: str, *, sends_to: str | None, in_use: frozenset[str]
    ) -> Release | None:
        """Record where a gateway's requests are, and return the release for its new ones.

        Args:
            gateway: Name of the gateway.
            sends_to: Application of the release that its new requests go to.
            in_use: Applications of releases that it has requests on.
        """
        self._gateways[gateway] = _Gateway(sends_to=sends_to, in_use=in_use, at_s=time.monotonic())
        return self._current

    async def drain(self) -> None:
        """Take down old releases that no gateway has requests on.

        One that an update has come back to meanwhile stays; an update to one that is being taken
        down waits until it is gone, and puts it up anew.
        """
        for app in sorted(self._old):
            async with self._removal_lock:
                if not self._is_needed(app):
                    await self._take_down(app)

    async def _take_down(self, app: str) -> None:
        """Stop a release; one that does not stop in time stays among the old ones, which drain."""
        try:
            await self._deployer.remove(app)
        except Exception:
            _logger.exception("%s could not be taken down yet", app)
        else:
            self._old.discard(app)

    def _is_needed(self, app: str) -> bool:
        """Return whether an old release is current or coming again, or may have requests."""
        if self._current is None and time.monotonic() < self._gateways_known_s:
            return True
        in_use = (app in gateway.in_use for gateway in self._alive())
        return app in {self._app(), self._starting} or self._gateways_lag() or any(in_use)

    def _app(self) -> str | None:
        return self._current.app if self._current is not None else None

    def _alive(self) -> list[_Gateway]:
        """Return the gateways that still check in, and forget the others."""
        since_s = time.monotonic() - SILENT_S
        self._gateways = {name: own for name, own in self._gateways.items() if own.at_s > since_s}
        return list(self._gateways.values())

    def _gateways_lag(self) -> bool:
        """Return whether a gateway still sends new requests to another release than the current."""
        return any(gateway.sends_to != self._app() for gateway in self._alive())

    async def _try(self, bundle: str, configured: str | None) -> None:
        """Make a bundle the current one, or keep why that cannot be.

        Args:
            bundle: The bundle.
            configured: The bundle that the configuration named when this one was asked for.
        """
        try:
            app = await self._deployer.name(bundle)
            if app != self._app():
                await self._switch(app, bundle)
            await self._note(configured)
        except ExpertreeError as error:
            self._problem = str(error)
            self._may_pass = isinstance(error, ResourceError | TransientStorageError)
        except Exception as error:
            _logger.exception("an update to %s failed, which is a fault of ours", bundle)
            self._problem = f"{type(error).__name__}: {error}"

    async def _note(self, configured: str | None) -> None:
        """Note what is served now; where that fails, it costs a guess after a restart."""
        if self._current is None:
            return
        try:
            await self._deployer.note(Served(release=self._current, configured=configured))
        except Exception:
            _logger.exception("%s is served, which cannot be noted", self._current.bundle)

    async def _switch(self, app: str, bundle: str) -> None:
        """Start a release, or keep one that drains, and make it the current one."""
        self._starting, was_draining = app, False
        try:
            async with self._removal_lock:  # it may be on its way down
                was_draining = app in self._old
            self._old.add(app)  # so that it goes, should this task be cancelled
            release = await self._deployer.deploy(app, bundle)
            if self._current is not None:
                self._old.add(self._current.app)
            self._old.discard(app)
            self._current = release
        except Exception:
            if not was_draining:
                await self._take_down(app)
            raise
        finally:
            self._starting = None
