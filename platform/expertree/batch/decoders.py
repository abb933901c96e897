"""What reads photographs here, and hence what fails for good."""

import contextlib
import importlib.metadata

from expertree import __version__
from expertree.images.heic import has_heic

_READERS = ("opencv-python-headless", "pillow")
_HEIC_READER = "pillow-heif"


def decoders() -> str:
    """Return the names and versions that decide which files can be read, as one line of text.

    A file that could not be read is worth another try where this differs.
    """
    found = [f"expertree {__version__}"]
    for name in (*_READERS, _HEIC_READER) if has_heic() else _READERS:
        version = "of unknown version"
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # another build of it
            version = importlib.metadata.version(name)
        found.append(f"{name} {version}")
    return ", ".join(found)
