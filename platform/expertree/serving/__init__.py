"""The HTTP service over any `Engine`; it does not depend on Ray.

`engine.py` is the interface between HTTP and computation, `local.py` the engine of one process,
`http/` the HTTP side, and `settings.py` its keys and limits.
"""

from expertree.serving.engine import (
    Alternative,
    Engine,
    Expert,
    Model,
    ModelNode,
    Pixels,
    RestoredPixels,
    Routed,
)
from expertree.serving.http.app import create_app
from expertree.serving.local import LocalEngine
from expertree.serving.settings import HttpConfig, JobLimits, Key, Limits, check_binding

__all__ = [
    "Alternative",
    "Engine",
    "Expert",
    "HttpConfig",
    "JobLimits",
    "Key",
    "Limits",
    "LocalEngine",
    "Model",
    "ModelNode",
    "Pixels",
    "RestoredPixels",
    "Routed",
    "check_binding",
    "create_app",
]
