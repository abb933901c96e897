"""What an endpoint allows, and whom: each default in its dataclass."""

import dataclasses
import ipaddress
import re

from expertree.errors import ConfigError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ORIGIN = re.compile(r"https?://[^/\s*]+")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """Who may ask, and how much. The key itself is a bearer token that only its owner has.

    Attributes:
        name: Of its owner, for logs.
        sha256: Of the token, in hex. Tokens must be random (`openssl rand -base64 32`): their hash
            is a fast one.
        requests_per_minute: At most, in each gateway; any number if None.
        max_concurrent: Requests in work at a time, in each gateway; any number if None.
    """

    name: str
    sha256: str
    requests_per_minute: float | None = None
    max_concurrent: int | None = None

    def __post_init__(self) -> None:
        """Refuse a key that nobody can have, or that allows nothing."""
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(
                f"key '{self.name}': sha256 must be 64 hex digits in lower case; make it by "
                'printf %s "$TOKEN" | sha256sum'
            )
        for limit in ("requests_per_minute", "max_concurrent"):
            value = getattr(self, limit)
            if value is not None and value <= 0:
                raise ValueError(f"key '{self.name}': {limit} must be positive, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a request may take."""

    max_body_bytes: int = 64 << 20
    """Of a request's body, counted while it comes in; of JSON, in which an image is a third
    longer, likewise."""

    max_pixels: int = 50_000_000
    """Of an image, by its header, before it is decoded."""

    max_tile_px: int = 1024
    """Largest tile that may be asked for; NAFNet of width 32 needs about 1 GiB for one."""

    body_grace_s: float = 10.0
    """A body must come in within this time and ..."""

    min_body_bytes_per_s: float = 64 << 10
    """... the time that it takes at this rate."""

    deadline_s: float = 120.0
    """After which a request, though not a job, is given up. A cold start must fit in."""

    max_memory_bytes: int = 2 << 30
    """Bodies and decoded images of all requests in work, in one process; who needs more than is
    left is told to come again."""

    num_codec_threads: int = 4
    """Images decoded or encoded at a time."""

    def __post_init__(self) -> None:
        """Refuse limits that allow nothing."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be positive, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobLimits:
    """What jobs may take."""

    kept_s: float = 24 * 3600.0
    """How long a job is known after it was asked for."""

    max_bytes: int = 512 << 20
    """Images asked for and results, of all jobs; when they are full, new jobs are refused."""

    max_jobs: int = 1000
    """That are known at a time."""

    max_jobs_per_key: int = 100
    """... of one key."""

    max_running: int = 2
    """At a time, in each gateway; the others wait."""

    deadline_s: float = 3600.0
    """After which a job fails, from its start."""

    lease_s: float = 30.0
    """A gateway that is silent for so long has lost its jobs; the next one to be asked for one
    takes it over."""

    def __post_init__(self) -> None:
        """Refuse limits that allow nothing."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be positive, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """All of an endpoint's HTTP side."""

    host: str = "127.0.0.1"
    """Address to listen on. Beyond loopback it needs keys."""

    port: int = 8000
    """Port to listen on."""

    keys: tuple[Key, ...] = ()
    """Who may ask. With none, everyone who can reach the address."""

    allow_without_keys: bool = False
    """Whether to listen beyond loopback without keys: behind a proxy that has its own, say."""

    cors_origins: tuple[str, ...] = ()
    """Sites whose pages may ask from a browser, as `https://example.org`; none but the endpoint's
    own page by default."""

    limits: Limits = Limits()
    """What a request may take."""

    jobs: JobLimits = JobLimits()
    """What jobs may take."""

    text_model: str | None = None
    """Folder or name of a sentence embedding for free text as instruction; without one only names
    are understood. Needs the extra `text`."""

    def __post_init__(self) -> None:
        """Refuse what would be open by mistake."""
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"cors_origins: expected scheme and host as in https://example.org, got "
                    f"{origin!r}"
                )
        names = [key.name for key in self.keys]
        if len(set(names)) < len(names):
            raise ValueError(f"keys need names of their own, got {names}")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def check_binding(config: HttpConfig) -> None:
    """Refuse to listen where strangers are, without keys.

    Raises:
        ConfigError: If the address is beyond loopback, there are no keys and nobody said that it
            is meant so.
    """
    if not (config.is_local or config.keys or config.allow_without_keys):
        raise ConfigError(
            f"host {config.host} can be reached by others, and there are no keys: add keys, listen "
            "on 127.0.0.1, or set allow_without_keys=true if something else keeps strangers out"
        )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own for itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
