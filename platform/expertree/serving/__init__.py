"""The served model: an HTTP contract over any `Engine`. Knows nothing of Ray.

`engine.py` is where the HTTP side and the side that computes meet.
"""

from expertree.serving.engine import (
    Alternative,
    Engine,
    Expert,
    Model,
    ModelNode,
    OnTile,
    Options,
    Pixels,
    Restored,
    Routed,
)
from expertree.serving.local import LocalEngine

__all__ = [
    "Alternative",
    "Engine",
    "Expert",
    "LocalEngine",
    "Model",
    "ModelNode",
    "OnTile",
    "Options",
    "Pixels",
    "Restored",
    "Routed",
]
