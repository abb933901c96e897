"""Comparing an exported network's images with torch's, before anybody gets the file."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.errors import ConfigError, ExportError
from expertree.experts.backbones.nafnet_layers import window_of

TOLERANCE = 1e-3
"""Largest difference of a value, of 1: a quarter of a step of 8 bits. Measured are 1e-6 and less;
weights of a network that was trained badly may amplify rounding."""

SIDES_PX = ((1, 1), (5, 40), (37, 61), (96, 64), (131, 90))
"""Sides of the images that are compared: odd ones, smaller than a padding, wide and high."""


def sides_beyond(window_px: int | None) -> tuple[tuple[int, int], ...]:
    """Return sides of images of just a window, and of more; none for a network without windows."""
    if window_px is None:
        return ()
    return (window_px, window_px), (window_px * 3 // 4 + 5, window_px * 3 // 2)


def check_images(
    program: str,
    run: Callable[[Float[Tensor, "1 3 h w"]], Tensor],
    network: nn.Module,
    *,
    sides_px: Sequence[tuple[int, int]] | None = None,
    multiple_px: int = 1,
) -> float:
    """Compare what a program makes of images with what the network makes of them.

    Args:
        program: Its name, for the message.
        run: Function that restores by it.
        network: The network, in evaluation mode, on the CPU.
        sides_px: Sides of the images; by default `SIDES_PX`, and larger ones for windows.
        multiple_px: Multiple of the sides that the program needs; they are rounded up to it.

    Returns:
        The largest difference of a value.

    Raises:
        ExportError: If it is above `TOLERANCE`, or an image has another shape.
    """
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for height_px, width_px in sides_px or (*SIDES_PX, *sides_beyond(window_of(network))):
        sides = [-(-side // multiple_px) * multiple_px for side in (height_px, width_px)]
        image = torch.rand(1, 3, *sides, generator=generator)
        with torch.inference_mode():
            wanted, found = network(image), run(image)
        if wanted.shape != found.shape:
            raise ExportError(
                f"{program} makes {list(found.shape)} of an image {list(image.shape)}; this "
                "network cannot be exported so"
            )
        difference = float((wanted - found).abs().max())
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{program} differs from torch by {difference:.2g} of 1 on an image "
                f"{list(image.shape)}, {TOLERANCE:g} is allowed; this network cannot be exported so"
            )
        worst = max(worst, difference)
    return worst


def onnx_runner(
    data: bytes, *, num_threads: int = 1
) -> Callable[[Tensor], list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    """Return a function that gives a graph's outputs for an image, by ONNX Runtime on the CPU.

    Raises:
        ConfigError: If ONNX Runtime is not installed.
        ExportError: If the graph is not valid.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "what is exported is compared with torch by ONNX Runtime, which is not installed: "
            "pip install 'expertree[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common root
        raise ExportError(f"ONNX Runtime does not open the graph: {error}") from error
    (given,) = session.get_inputs()

    def run(image: Tensor) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        found: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = session.run(
            None, {given.name: image.numpy()}
        )
        return found

    return run


def restoring(data: bytes) -> Callable[[Tensor], Tensor]:
    """Return a function that gives a graph's first output for an image; raises as `onnx_runner`."""
    run = onnx_runner(data)
    return lambda image: torch.from_numpy(run(image)[0])
