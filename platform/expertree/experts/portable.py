"""An expert's network as other runtimes take it: ONNX or TorchScript, for images of any size.

Both are made by tracing. Padding to the network's multiple is part of the graph, computed from the
image's sides, so that a program that knows nothing of it gives the same image as torch.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from expertree.errors import ExportError
from expertree.experts.backbones import Backbone, build_backbone, describe_backbone
from expertree.experts.backbones.nafnet_layers import ChannelNorm, set_window, window_of

OPSET = 17
"""Version of ONNX's operators: the first with layer normalisation, which every ONNX Runtime since
1.12 (2022), OpenVINO and OpenCV 5 read. Nothing here needs a newer one."""

INPUT, OUTPUT = "input", "output"
"""Names of a graph's input and output, float32 `[1, 3, height, width]`, RGB in [0, 1]; what comes
out is not clipped."""

NormForm: TypeAlias = Literal["layer", "spelt"]
"""How NAFNet's norm over channels is written: `layer`, as one operator between two transpositions,
or `spelt`, as means over the channels. It is the same function. ONNX Runtime is quicker with the
first by a fifth, OpenVINO with the second by a third (docs/EXPORT.md)."""

_TRACED_PX = (48, 64)
"""Sides of the image that is traced; multiples of what any network works in. They differ, so that
a side that was taken for a constant shows."""


class Portable(nn.Module):
    """A network in the form that is traced: each layer a module, with its padding outside it.

    Attributes:
        network: The network.
        multiple_px: Multiple of the sides on which it works.
    """

    def __init__(self, config: Backbone, network: nn.Module, *, norm: NormForm = "layer") -> None:
        """Copy a network.

        Args:
            config: Its sizes.
            network: The network in any form, on the CPU.
            norm: How the norm over channels is written.

        Raises:
            ExportError: If it is told of the whole image, which an exported network is not, or its
                images take different ways, of which tracing would keep one.
        """
        super().__init__()
        if config.told:
            raise ExportError(
                f"{config.name} is told of the whole image ({', '.join(config.told)}), for which "
                "an exported network has no input; export it as safetensors"
            )
        cost = describe_backbone(config)
        if cost.multiply_adds_512 != cost.least_multiply_adds_512:
            raise ExportError(
                f"images take different ways through a {config.name}, of which tracing keeps one; "
                "export it as safetensors"
            )
        plain = build_backbone(config, fast=False)
        plain.load_state_dict(network.state_dict())
        set_window(plain, window_of(network))
        self.network = plain.eval() if norm == "layer" else _with_spelt_norms(plain.eval())
        self.multiple_px = config.multiple_px
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore images of any size; the result is not clipped."""
        height, width = image.shape[-2:]
        rows, columns = reached(_sides(image), self.multiple_px)
        padded = image.index_select(2, rows).index_select(3, columns)
        restored: Tensor = self.network(padded)
        return restored[:, :, :height, :width]


def reached(
    sides: Int64[Tensor, " 2"], multiple_px: int
) -> tuple[Int64[Tensor, " rows"], Int64[Tensor, " columns"]]:
    """Return the pixels along both sides that `pad_to_multiple` takes, as what can be traced.

    They go on by reflection, or, if either side is too short for that, both repeat their border.
    """
    wanted = (sides + multiple_px - 1) // multiple_px * multiple_px
    is_long = (wanted - sides < sides).all()
    found = []
    for axis in (0, 1):
        last = sides[axis] - 1
        places = torch.arange(wanted[axis])  # type: ignore[call-overload]  # traced
        reflected = torch.minimum(places, 2 * last - places)
        found.append(torch.where(is_long, reflected, torch.minimum(places, last)))
    return found[0], found[1]


def to_onnx(module: nn.Module, outputs: tuple[str, ...] = (OUTPUT,)) -> bytes:
    """Return a traced module as ONNX: `INPUT` is an image whose height and width are free.

    Args:
        module: From float `[1, 3, h, w]` to what the outputs name; the first is such an image.
        outputs: Names of the outputs.

    Raises:
        ExportError: If something in it has no form in ONNX.
    """
    sides = {2: "height", 3: "width"}
    stream = io.BytesIO()
    with _quietly(), torch.inference_mode(mode=False), torch.no_grad():
        try:
            # The exporter of torch 2.9 needs onnxscript and writes larger graphs of these networks.
            torch.onnx.export(
                module,
                (_example(),),
                stream,  # type: ignore[arg-type]  # the old exporter takes one
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_axes={INPUT: sides, OUTPUT: sides},
            )
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(f"this network has no form in ONNX: {reason}") from error
    return stream.getvalue()


def to_torchscript(module: nn.Module) -> bytes:
    """Return a traced module as a file that `torch.jit.load` opens without this package.

    Raises:
        ExportError: If it cannot be traced.
    """
    stream = io.BytesIO()
    with _quietly(), torch.inference_mode(mode=False), torch.no_grad():
        try:
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                module, _example(), check_trace=False
            )
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(f"this network cannot be traced: {reason}") from error
        torch.jit.save(traced, stream)
    return stream.getvalue()


class _SpeltNorm(nn.Module):
    """A `ChannelNorm` as means over the channels."""

    def __init__(self, norm: ChannelNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise each pixel over its channels."""
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        scale, shift = (value.view(1, -1, 1, 1) for value in (self.weight, self.bias))
        return centred / torch.sqrt(variance + self.eps) * scale + shift


def _with_spelt_norms(layer: nn.Module) -> nn.Module:
    for name, child in list(layer.named_children()):
        if isinstance(child, ChannelNorm):
            layer.add_module(name, _SpeltNorm(copy.copy(child)))
        else:
            _with_spelt_norms(child)
    return layer


def _sides(image: Float[Tensor, "b 3 h w"]) -> Int64[Tensor, " 2"]:
    """Return height and width as a tensor, which a trace follows."""
    sides: Tensor = torch._shape_as_tensor(image)[2:]  # noqa: SLF001 - torch has no public one
    return sides


def _example() -> Float[Tensor, "1 3 h w"]:
    return torch.rand(1, 3, *_TRACED_PX, generator=torch.Generator().manual_seed(0))


def open_torchscript(data: bytes) -> Callable[[Tensor], Tensor]:
    """Return a network that `to_torchscript` wrote."""
    with _quietly():  # torch 2.15 says that the format will go
        network: Callable[[Tensor], Tensor] = torch.jit.load(  # type: ignore[no-untyped-call]
            io.BytesIO(data)
        )
    return network


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the warnings of tracing: whether a constant is one is checked by comparing images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
