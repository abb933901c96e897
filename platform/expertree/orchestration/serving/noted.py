"""What control has to know again after a restart, in the cluster's own store of keys and values.

Replicas would not do: they are made with what held when their bundle was put up, and a bundle that
an update comes back to is not put up anew.
"""

import logging

from ray import cloudpickle
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from expertree.serving.updates import Served

_NAMESPACE = "expertree"

_logger = logging.getLogger("ray.serve")


def note(endpoint: str, served: Served | None) -> None:
    """Note what an endpoint serves; with None nothing is noted any more.

    Args:
        endpoint: Name of the endpoint's application.
        served: What it serves.
    """
    if served is None:
        _internal_kv_del(_key(endpoint), namespace=_NAMESPACE)
        return
    data = cloudpickle.dumps(served)  # type: ignore[no-untyped-call]
    _internal_kv_put(_key(endpoint), data, namespace=_NAMESPACE)


def noted(endpoint: str) -> Served | None:
    """Return what was noted last; None for nothing, or what another version has noted."""
    data = _internal_kv_get(_key(endpoint), namespace=_NAMESPACE)
    if not data:
        return None
    try:
        served = cloudpickle.loads(data)
    except Exception:
        _logger.exception("what control noted of %s cannot be read", endpoint)
        return None
    return served if isinstance(served, Served) else None


def _key(endpoint: str) -> str:
    return f"served-{endpoint}"
