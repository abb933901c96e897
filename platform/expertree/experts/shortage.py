"""Recognise a lack of memory, and free memory before another try with less."""

import torch

_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""Messages of the CPU's allocator on Linux and on Windows, of CUDA itself, and of cuBLAS and
cuDNN."""


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
