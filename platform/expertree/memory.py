"""Keep freed memory for the next step, and recognise a lack of it."""

import ctypes
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of two parameters of glibc's `mallopt`, from malloc.h."""

_MMAP_THRESHOLD_BYTES = 32 << 20
"""The largest threshold that glibc accepts."""

_TRIM_THRESHOLD_BYTES = 1 << 30

_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""Messages of the CPU's allocator on Linux and on Windows, of CUDA itself, and of cuBLAS and
cuDNN."""


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


def return_freed_memory() -> bool:
    """Ask the C library to give what was freed back to the system.

    Decoders hold a photograph in blocks of megabytes, which glibc keeps for another time: 400 MB of
    a photograph of 100 megapixels.

    Returns:
        Whether anything was given back; only glibc does.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).malloc_trim(0) == 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out.

    PyTorch has a class for that on a GPU. On a CPU, and where a library of CUDA's asks for memory
    by itself, it is a RuntimeError that only its message tells from others.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def free_cached_memory() -> None:
    """Give back the GPU memory that PyTorch keeps for later, in pieces of the sizes that failed.

    Call it outside the `except` block: until that ends, the error's frames hold their tensors.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
