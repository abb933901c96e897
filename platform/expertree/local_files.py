"""Writes files of this machine's filesystems whole, or not at all."""

import contextlib
import errno
import os
import uuid
from pathlib import Path

PARTIAL = ".partial-"
"""How the names of files begin that are not whole yet."""

_NO_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)
"""Errors of filesystems without hard links."""


def create_local(path: Path, data: bytes) -> bool | None:
    """Write a new file whole; False if there is one, None where there are no hard links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"
    write_local(partial, data)
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            return None
        raise
    finally:
        partial.unlink(missing_ok=True)
    return True


def write_local(path: Path, data: bytes, like: Path | None = None) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: The file; its folder is made if it is missing.
        data: Its bytes.
        like: A file whose permissions and times it gets, as far as the filesystem has them.

    Raises:
        OSError: If it cannot be written; the old one is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if like is not None:
            _resemble(partial, like)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _resemble(path: Path, like: Path) -> None:
    """Give a file the permissions and times of another; some filesystems have neither."""
    with contextlib.suppress(OSError):
        status = like.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        path.chmod(status.st_mode & 0o777)
