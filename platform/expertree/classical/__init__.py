"""Classical restoration: methods without learning, for images whose degradations are known.

`registry.py` has a line for each degradation and its methods, `filters.py` those that look at a
pixel's neighbours, `light.py` those that model the light. All are pure functions of one image.
"""

from expertree.classical.registry import (
    AS_IT_IS,
    REGISTRY,
    VERSION,
    Method,
    candidates_for,
    methods_of,
    restore_classically,
)

__all__ = [
    "AS_IT_IS",
    "REGISTRY",
    "VERSION",
    "Method",
    "candidates_for",
    "methods_of",
    "restore_classically",
]
