"""The served model: an HTTP contract over any `Engine`. Knows nothing of Ray.

`engine.py` is where the HTTP side and the side that computes meet, `local.py` the engine of one
process, `app.py` the HTTP side, `settings.py` what it allows.
"""

from expertree.serving.engine import (
    Alternative,
    Engine,
    Expert,
    Model,
    ModelNode,
    OnTile,
    Pixels,
    Restored,
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
    "OnTile",
    "Pixels",
    "Restored",
    "Routed",
    "check_binding",
    "create_app",
]
