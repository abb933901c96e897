"""Check bearer tokens against hashes, and hold each owner to the limits of the key."""

import contextlib
import hashlib
import hmac
import math
import time
from collections.abc import Callable, Iterator

from expertree.serving.http.problems import ProblemError
from expertree.serving.settings import Key

MAX_TOKEN_BYTES = 1024

ANONYMOUS = "everyone"
"""The owner of requests where there are no keys."""


class Authenticator:
    """Lets requests in that have a key, as many as the key's limits allow."""

    def __init__(
        self, keys: tuple[Key, ...], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make a gatekeeper for the keys of an endpoint.

        Args:
            keys: Keys of those who may ask; without any, everyone may.
            clock: Function that returns seconds from any beginning.
        """
        self._keys = keys
        self._clock = clock
        self._in_work = dict.fromkeys((key.name for key in keys), 0)
        self._left = {key.name: (key.requests_per_minute or 0.0, clock()) for key in keys}

    def authenticate(self, authorization: str | None) -> Key | None:
        """Return the key whose token a request has; None where there are no keys.

        Every key is compared, in a time that does not tell how much of it was right.

        Args:
            authorization: Value of the header `Authorization`.

        Raises:
            ProblemError: If there are keys and this is none of them.
        """
        if not self._keys:
            return None
        scheme, _, token = (authorization or "").partition(" ")
        data = token.strip().encode("utf-8", errors="replace")
        digest = hashlib.sha256(data[:MAX_TOKEN_BYTES]).hexdigest()
        matching = [key for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        if scheme.lower() != "bearer" or not data or not matching:
            what = "This is not a key of this endpoint" if token else "Send a key of this endpoint"
            raise ProblemError(
                "no-key",
                f"{what}: Authorization: Bearer KEY.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return matching[0]

    @contextlib.contextmanager
    def admitted(self, key: Key | None) -> Iterator[None]:
        """Count a request against its key's limits until it is answered.

        Raises:
            ProblemError: If the key has no request left at the moment.
        """
        if key is None:
            yield
            return
        if key.max_concurrent is not None and self._in_work[key.name] >= key.max_concurrent:
            raise _too_many(f"{key.max_concurrent} requests of this key are in work", 1.0)
        self._spend(key)
        self._in_work[key.name] += 1
        try:
            yield
        finally:
            self._in_work[key.name] -= 1

    def _spend(self, key: Key) -> None:
        """Take a request from a key's bucket, which holds a minute's requests and fills evenly."""
        if key.requests_per_minute is None:
            return
        left, then = self._left[key.name]
        now = self._clock()
        rate = key.requests_per_minute / 60.0
        left = min(max(1.0, key.requests_per_minute), left + (now - then) * rate)
        if left < 1.0:
            self._left[key.name] = (left, now)
            each = f"{key.requests_per_minute:g} requests a minute"
            raise _too_many(f"This key has {each}", (1.0 - left) / rate)
        self._left[key.name] = (left - 1.0, now)


def _too_many(detail: str, retry_after_s: float) -> ProblemError:
    seconds = max(1, math.ceil(retry_after_s))
    return ProblemError(
        "overload",
        f"{detail}; come again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )
