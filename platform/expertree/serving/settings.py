"""Settings of an endpoint: address, keys and limits, with their defaults."""

import dataclasses
import ipaddress
import re

from expertree.errors import ConfigError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ORIGIN = re.compile(r"https?://[^/\s*]+")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A caller's key and its limits. The key itself is a bearer token that only its owner has.

    Attributes:
        name: Name of its owner, for logs.
        sha256: SHA-256 of the token, in hex. Tokens must be random (`openssl rand -base64 32`),
            since this hash is a fast one.
        requests_per_minute: Most requests a minute, in each gateway; any number if None.
        max_concurrent: Most requests in work at a time, in each gateway; any number if None.
    """

    name: str
    sha256: str
    requests_per_minute: float | None = None
    max_concurrent: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless `sha256` is 64 hex digits and the limits are positive."""
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
    """Limits on a request."""

    max_body_bytes: int = 64 << 20
    """Most bytes of a request's body, counted while it comes in. It holds for JSON too, in which an
    image is a third longer."""

    max_pixels: int = 50_000_000
    """Most pixels of an image, by its header, before it is decoded."""

    max_tile_px: int = 1024
    """Largest tile that may be asked for; NAFNet of width 32 needs about 1 GiB for one."""

    body_grace_s: float = 10.0
    """Seconds that any body may take to come in, besides its time at `min_body_bytes_per_s`."""

    min_body_bytes_per_s: float = 64 << 10
    """Slowest rate at which a body may come in, after `body_grace_s`."""

    deadline_s: float = 120.0
    """Seconds after which a request, though not a job, is given up. A cold start must fit in."""

    max_memory_bytes: int = 2 << 30
    """Most bytes of bodies and decoded images of all requests in work, in one process; a request
    that needs more than is left is told to come again. One image alone may need more than all."""

    num_codec_threads: int = 4
    """Images decoded or encoded at a time."""

    def __post_init__(self) -> None:
        """Raise ValueError unless every limit is positive."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be positive, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobLimits:
    """Limits on jobs."""

    kept_s: float = 24 * 3600.0
    """Seconds that a job is kept after it was asked for."""

    max_bytes: int = 512 << 20
    """Most bytes of all jobs' images and results; when they are full, new jobs are refused."""

    max_jobs: int = 1000
    """Most jobs that are known at a time."""

    max_jobs_per_key: int = 100
    """Most jobs of one key that are known at a time."""

    max_running: int = 2
    """Jobs in work at a time, in each gateway; the others wait."""

    deadline_s: float = 3600.0
    """Seconds from its start after which a job fails."""

    lease_s: float = 30.0
    """Seconds of silence after which a gateway has lost its jobs; the next one to be asked for one
    takes it over."""

    def __post_init__(self) -> None:
        """Raise ValueError unless every limit is positive."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be positive, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """Settings of an endpoint's HTTP side."""

    host: str = "127.0.0.1"
    """Address to listen on; an IPv6 one may have brackets or not. Beyond loopback it needs keys."""

    port: int = 8000
    """Port to listen on."""

    keys: tuple[Key, ...] = ()
    """Keys of those who may ask. Without any, everyone may who can reach the address."""

    allow_without_keys: bool = False
    """Whether to listen beyond loopback without keys: behind a proxy that has its own, say."""

    cors_origins: tuple[str, ...] = ()
    """Sites whose pages may ask from a browser, as `https://example.org`; none but the endpoint's
    own page by default."""

    limits: Limits = Limits()
    """Limits on a request."""

    jobs: JobLimits = JobLimits()
    """Limits on jobs."""

    text_model: str | None = None
    """Folder or name of a sentence embedding, to read instructions in free text; without one only
    names are understood, and whatever the model's own networks take. Needs the extra `text`."""

    def __post_init__(self) -> None:
        """Raise ValueError for an origin that is not scheme and host, or two keys of one name."""
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
    def bind_host(self) -> str:
        """The address to listen on; an IPv6 address has no brackets."""
        return self.host.strip("[]")

    @property
    def netloc(self) -> str:
        """Address and port as URLs have them; an IPv6 address has brackets."""
        host = f"[{self.bind_host}]" if ":" in self.bind_host else self.bind_host
        return f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def check_binding(config: HttpConfig) -> None:
    """Raise if the endpoint would be open to strangers without being meant to.

    Raises:
        ConfigError: If the address is beyond loopback, there are no keys, and
            `allow_without_keys` is False.
    """
    if not (config.is_local or config.keys or config.allow_without_keys):
        raise ConfigError(
            f"host {config.host} can be reached by others, and there are no keys: add keys, listen "
            "on 127.0.0.1, or set allow_without_keys=true if something else keeps strangers out"
        )


def is_loopback(host: str) -> bool:
    """Return whether an address is `localhost` or a loopback IP address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
