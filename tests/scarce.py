"""Errors as they come where memory does not suffice."""

import numpy as np
import torch

KINDS = ("cpu", "gpu", "numpy")


def run_out_of_memory(kind: str) -> None:
    """Raise what PyTorch or numpy raises on such a device; the CPU's are asked for in earnest."""
    if kind == "gpu":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    if kind == "cpu":
        torch.empty(1 << 60, dtype=torch.uint8)
    np.empty(1 << 60, dtype=np.uint8)
