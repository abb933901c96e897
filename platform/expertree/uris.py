"""What URIs say of who asks: it may hold a secret key, which is neither shown nor kept."""

import re
from collections.abc import Iterable
from typing import Any

_KEYS = re.compile(r"(\w+://)[^/?@\s]*@")
_PLACE = re.compile(r"(\w+://)([^/?@\s]*@)?([^/?]*)")


def public(data: Any) -> Any:  # noqa: ANN401 - plain data has no narrower type
    """Return plain data as others may see it: without the keys in the URIs of all its strings.

    Args:
        data: Mappings, lists, tuples and scalars.
    """
    if isinstance(data, str):
        return _KEYS.sub(r"\1", data)
    if isinstance(data, dict):
        return {name: public(value) for name, value in data.items()}
    if isinstance(data, list):
        return [public(value) for value in data]
    if isinstance(data, tuple):
        return tuple(public(value) for value in data)
    return data


def with_keys_of(uri: str, known: Iterable[str]) -> str:
    """Return a URI with the keys of the first of some that lies in the same bucket and has any.

    Without one, or where it has keys of its own, it is returned as it is.

    Args:
        uri: A URI or a path, as `public` leaves it.
        known: URIs and paths, as they were given.
    """
    own = _PLACE.match(uri)
    if own is None or own[2]:
        return uri
    for other in map(_PLACE.match, known):
        if other is not None and other[2] and (other[1], other[3]) == (own[1], own[3]):
            return f"{other[0]}{uri[own.end() :]}"
    return uri
