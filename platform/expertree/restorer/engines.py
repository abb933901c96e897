"""What experts compute by: torch, or OpenVINO, which is faster on CPUs.

torch is the reference. An expert's graph for OpenVINO is made when it is first needed on a machine,
compared with torch on pictures, and kept in the user's cache under a hash of all that made it.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.config import canonical_json
from expertree.errors import ArtefactError, ConfigError, ExportError, StorageError
from expertree.experts.portable import INPUT, Portable, to_onnx
from expertree.hierarchy import ROOT
from expertree.restorer.bundle import Bundle
from expertree.restorer.exports.checking import sides_beyond
from expertree.storage import Storage, describe

EngineName: TypeAlias = Literal["torch", "openvino", "auto"]
"""`auto` is OpenVINO where it is installed, the device is a CPU and an expert's network has a graph
for it, and torch otherwise."""

VERSION = 1
"""Raised whenever the same expert would get another graph."""

TOLERANCE: Mapping[torch.dtype, float] = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Largest difference from torch in float32, of 1, on pictures of the self-test: in float32 far
below a step of 8 bits, in bfloat16 as much as torch's own differs by."""

_SIDES_PX = ((64, 96), (37, 61))

_ADVICE = "pip install 'expertree[openvino]'"

_logger = logging.getLogger(__name__)


class _FailedError(ExportError):
    """OpenVINO does not compile a graph, or does not compute it."""


class OpenVinoNetwork(nn.Module):
    """An expert's compiled graph, in the place of its network. One image is restored at a time.

    Attributes:
        multiple_px: Multiple of the sides on which the network works.
    """

    def __init__(self, compiled: Any, multiple_px: int) -> None:  # noqa: ANN401 - openvino's own
        super().__init__()
        self.multiple_px = multiple_px
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped."""
        with self._lock:
            restored = [self._one(part) for part in torch.split(image.float(), 1)]
        return restored[0] if len(restored) == 1 else torch.cat(restored)

    def _one(self, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
        found = self._request.infer({INPUT: image.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(found[0])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """What the cache says of a graph: the hash of its file, and how far it was from torch."""

    sha256: str
    largest_difference: float


class OpenVinoEngine:
    """Opens the experts of a bundle as graphs of OpenVINO."""

    def __init__(
        self, bundle: Bundle, dtype: torch.dtype, *, is_strict: bool, cache: Storage | None = None
    ) -> None:
        """Look at this machine.

        Args:
            bundle: An opened bundle.
            dtype: float32, or bfloat16 where the CPU has it (AMX or AVX-512 BF16).
            is_strict: Whether an expert without a graph is an error, and not left to torch.
            cache: Folder of the graphs; one in the user's cache by default, or none where the user
                has no home.

        Raises:
            ConfigError: If OpenVINO is not installed or does not start, or the CPU does not compute
                in `dtype`.
        """
        self._bundle, self._dtype, self._is_strict = bundle, dtype, is_strict
        self._has_warned = False
        folder = cache_folder()
        self._cache = cache or (None if folder is None else Storage.open(folder))
        self._core, abilities = _start()
        if reason := _why_not(dtype, abilities):
            raise ConfigError(reason)

    def network(self, node: int) -> nn.Module | None:
        """Return an expert's graph, compiled for as many threads as torch has here.

        Returns:
            None if its kind of network has no graph, or another one than torch's, or OpenVINO fails
            on it, and the engine is not strict.

        Raises:
            ArtefactError: If the expert's files have changed since the bundle was opened.
            ExportError: If it has none, and the engine is strict.
        """
        try:
            data, is_new = self._graph(node)
            network = self._compiled(node, data)
            if is_new:
                self._keep(node, data, self._check(node, network))
        except ExportError as error:
            if self._is_strict:
                raise
            if isinstance(error, _FailedError) and not self._has_warned:
                self._has_warned = True
                _logger.warning("%s; torch computes what it does not", error)
            return None
        return network

    def _graph(self, node: int) -> tuple[bytes, bool]:
        """Return an expert's graph, and whether it was made just now."""
        if (kept := self._kept(node)) is not None:
            return kept, False
        network = self._bundle.load_expert(node)
        # The form of the norm is the one that OpenVINO fuses.
        return to_onnx(Portable(self._bundle.backbone(node), network, norm="spelt")), True

    def _kept(self, node: int) -> bytes | None:
        """Return a graph from the cache; None if it is not there whole."""
        if self._cache is None:
            return None
        name = self._name(node)
        try:
            made = _Made(**self._cache.read_json(f"{name}.json"))
            data = self._cache.read_bytes(f"{name}.onnx")
        except (ArtefactError, StorageError, TypeError):
            return None
        return data if describe(data)["sha256"] == made.sha256 else None

    def _keep(self, node: int, data: bytes, difference: float) -> None:
        if self._cache is None:
            return
        made = _Made(sha256=describe(data)["sha256"], largest_difference=difference)
        with contextlib.suppress(StorageError):  # without a cache it is made again next time
            self._cache.write_bytes(f"{self._name(node)}.onnx", data)
            self._cache.write_json(f"{self._name(node)}.json", dataclasses.asdict(made))

    def _name(self, node: int) -> str:
        """Return the name in the cache: a hash of the weights and of what makes a graph of them."""
        import openvino  # noqa: PLC0415 - an extra

        manifest, entry = self._bundle.manifest, self._bundle.entry(node)
        root = self._bundle.entry(ROOT) if entry.adapter is not None else entry
        made_of = {
            "version": VERSION,
            "torch": torch.__version__,
            "openvino": openvino.__version__,
            "cpu": sorted(self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
            "dtype": str(self._dtype),
            **({} if entry.window_px is None else {"window_px": entry.window_px}),
            "files": [manifest.files[name].sha256 for name in (*entry.files, *root.files)],
        }
        return hashlib.sha256(canonical_json(made_of).encode()).hexdigest()[:32]

    def _compiled(self, node: int, data: bytes) -> OpenVinoNetwork:
        is_half = self._dtype == torch.bfloat16
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if is_half else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # Several processes would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        multiple_px = self._bundle.entry(node).multiple_px
        with _named_errors(node):
            compiled = self._core.compile_model(self._core.read_model(data), "CPU", settings)
            return OpenVinoNetwork(compiled, multiple_px)

    def _check(self, node: int, network: nn.Module) -> float:
        """Compare a graph with torch, and return the largest difference.

        Raises:
            ExportError: If it is too large, or OpenVINO fails.
        """
        reference, worst = self._bundle.load_expert(node), 0.0
        generator = torch.Generator().manual_seed(0)
        for sides_px in (*_SIDES_PX, *sides_beyond(self._bundle.entry(node).window_px)):
            image = torch.rand(1, 3, *sides_px, generator=generator)
            with torch.inference_mode():
                with _named_errors(node):
                    found = network(image)
                worst = max(worst, float((found - reference(image)).abs().max()))
        if not worst <= TOLERANCE[self._dtype]:
            raise ExportError(
                f"OpenVINO differs from torch by {worst:.2g} of 1 in expert {node}, "
                f"{TOLERANCE[self._dtype]:g} is allowed; restore with --engine torch"
            )
        return worst


def open_engine(
    name: EngineName, bundle: Bundle, device: torch.device, dtype: torch.dtype
) -> OpenVinoEngine | None:
    """Return what opens experts; None for torch.

    Args:
        name: The engine that is asked for.
        bundle: An opened bundle.
        device: Device that the networks run on.
        dtype: Type that experts compute in.

    Raises:
        ConfigError: If OpenVINO is asked for by name and cannot be had for this device or type.
    """
    if name == "torch":
        return None
    if name == "openvino":
        if device.type != "cpu":
            raise ConfigError(
                f"the engine openvino computes on the CPU, not on {device}; leave the device out"
            )
        return OpenVinoEngine(bundle, dtype, is_strict=True)
    if device.type != "cpu" or importlib.util.find_spec("openvino") is None:
        return None
    try:
        _, abilities = _start()
    except ConfigError as error:
        _logger.warning("%s; torch computes instead", error)
        return None
    if _why_not(dtype, abilities) is not None:
        return None
    return OpenVinoEngine(bundle, dtype, is_strict=False)


def cache_folder() -> Path | None:
    """Return the folder of graphs in the user's cache (XDG_CACHE_HOME, or ~/.cache), if any."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "expertree" / "openvino"
    except RuntimeError:  # no HOME, and nothing said of the user
        return None


def _start() -> tuple[Any, list[str]]:
    """Return a core of OpenVINO, and the types that this CPU computes in.

    Raises:
        ConfigError: If a package is missing, or OpenVINO does not start here.
    """
    try:
        import onnx  # noqa: F401, PLC0415 - extras
        import openvino  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"the engine openvino needs the package {error.name}, which is not installed: {_ADVICE}"
        ) from error
    try:
        core = openvino.Core()
        return core, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        raise ConfigError(
            f"OpenVINO does not start here ({error}); restore with --engine torch"
        ) from error


@contextlib.contextmanager
def _named_errors(node: int) -> Iterator[None]:
    """Turn OpenVINO's own errors within the block into those of an expert without a graph."""
    try:
        yield
    except RuntimeError as error:
        raise _FailedError(
            f"OpenVINO fails on expert {node} ({error}); restore with --engine torch"
        ) from error


def _why_not(dtype: torch.dtype, abilities: list[str]) -> str | None:
    """Return why a CPU does not compute in a type by OpenVINO; None if it does."""
    if dtype == torch.float32 or (dtype == torch.bfloat16 and "BF16" in abilities):
        return None
    name = str(dtype).removeprefix("torch.")
    return (
        f"the engine openvino does not compute in {name} on this CPU, which has "
        f"{', '.join(sorted(abilities))}; take float32, or the engine torch"
    )
