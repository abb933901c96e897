"""The assembled model, as a bundle on disk and a `Restorer` over it; independent of Ray."""

from expertree.restorer.bundle import (
    Bundle,
    Outline,
    open_bundle,
    read_outline,
    write_bundle,
)
from expertree.restorer.manifest import Manifest
from expertree.restorer.restorer import Restoration, Restorer
from expertree.restorer.shipped import SHIPPED, find_bundle

__all__ = [
    "SHIPPED",
    "Bundle",
    "Manifest",
    "Outline",
    "Restoration",
    "Restorer",
    "find_bundle",
    "open_bundle",
    "read_outline",
    "write_bundle",
]
