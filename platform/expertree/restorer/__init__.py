"""The assembled model: a bundle on disk, and what restores images with it. Knows nothing of Ray."""

from expertree.restorer.bundle import Bundle, Manifest, open_bundle, write_bundle
from expertree.restorer.restorer import Restoration, Restorer

__all__ = ["Bundle", "Manifest", "Restoration", "Restorer", "open_bundle", "write_bundle"]
