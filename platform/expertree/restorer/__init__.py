"""The assembled model, as a bundle on disk and a `Restorer` over it; independent of Ray."""

from expertree.restorer.bundle import Bundle, Manifest, open_bundle, write_bundle
from expertree.restorer.restorer import Applied, OnTile, Restoration, Restorer

__all__ = [
    "Applied",
    "Bundle",
    "Manifest",
    "OnTile",
    "Restoration",
    "Restorer",
    "open_bundle",
    "write_bundle",
]
