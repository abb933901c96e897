"""The assembled model: a bundle on disk, and what restores images with it. Knows nothing of Ray."""

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
