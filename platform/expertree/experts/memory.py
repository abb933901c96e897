"""Keep the memory that a training step frees for the next step."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of two parameters of glibc's `mallopt`, from malloc.h."""

_MMAP_THRESHOLD_BYTES = 32 << 20
"""The largest threshold that glibc accepts."""

_TRIM_THRESHOLD_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Ask the C library to give freed memory back to the system only beyond a gigabyte.

    A step on a CPU allocates and frees the same activations again and again. By default glibc
    returns them each time, and the kernel clears some 8,000 pages a step to hand them out anew:
    a sixth of the step of a small network. The setting holds for the rest of the process.

    Returns:
        Whether the C library took the setting; only glibc does.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = (
        (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES),
    )
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
