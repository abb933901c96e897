"""What URIs say of who asks: it may hold a secret key, which is neither shown nor kept."""

import re
from collections.abc import Iterable
from typing import Any

_ASKER = re.compile(r"(\w+)://([^/?@:\s]*)(:[^/?@\s]*)?@")
_QUERY = re.compile(r"(?<!\s)\?[^?\s]*")
_SECRET = re.compile(r"[?&](?:sig|[\w-]*(?:token|secret|password|_key))=[^&\s]*", re.IGNORECASE)
_PLACE = re.compile(r"\w+://(?:[^/?@\s]*@)?[^/?]*")


def public(data: Any) -> Any:  # noqa: ANN401 - plain data has no narrower type
    """Return plain data as others may see it: without the keys in the URIs of all its strings.

    Keys are what stands before an `@`, but for names that are part of the place (the container of
    `abfs://container@account`, `gs://anonymous@bucket`), and parameters such as `sas_token`.

    Args:
        data: Mappings, lists, tuples and scalars.
    """
    if isinstance(data, str):
        return _QUERY.sub(_asked, _ASKER.sub(_asking, data)) if "://" in data else data
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
    if "://" not in uri or public(uri) != uri:
        return uri
    place, path, query = _divided(uri)
    for other in known:
        its_place, _, its_query = _divided(other)
        if public(its_place) != place:
            continue
        is_same = public(its_place + its_query) == place + query
        found = f"{its_place}{path}{its_query if is_same else query}"
        if found != uri:
            return found
    return uri


def _asking(match: re.Match[str]) -> str:
    """Return what is shown of the scheme and of who asks."""
    scheme, name, key = match.groups()
    is_place = scheme.startswith("abfs") or (key is None and not scheme.startswith("http"))
    return f"{scheme}://{name}@" if is_place and name else f"{scheme}://"


def _asked(match: re.Match[str]) -> str:
    """Return what is shown of a query."""
    left = _SECRET.sub("", match[0])
    return f"?{left[1:]}" if left else ""


def _divided(uri: str) -> tuple[str, str, str]:
    """Return the place of a URI (empty for a path), what is below it, and its query."""
    match = _PLACE.match(uri)
    place = "" if match is None else match[0]
    path, mark, query = uri[len(place) :].partition("?")
    return place, path, mark + query
