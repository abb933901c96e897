"""A whole bundle as one ONNX graph: extractor, routers, and every expert in a branch of an `If`.

A runtime computes only the branch that is chosen, so an image costs the routers and one expert, as
it does in `Restorer`. There are no tiles in the graph: an image is restored at once, and whoever
has larger ones than memory takes them exports the experts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from expertree.errors import ConfigError, ExportError
from expertree.experts.portable import INPUT, OPSET, OUTPUT, Portable, to_onnx
from expertree.restorer.bundle import Bundle
from expertree.restorer.exports.checking import TOLERANCE, check_images, onnx_runner, restoring
from expertree.restorer.exports.choosing import AS_IS, Chooser
from expertree.restorer.restorer import Restorer
from expertree.storage import Storage

EXPERT = "expert"
"""Name of the graph's second output, int64 `[1]`: the chosen expert's node, or -1."""

_SIDES = (1, 3, "height", "width")


def export_routed(bundle: Bundle, target: Storage) -> tuple[str, str]:
    """Write a bundle as `routed.onnx`, and compare its choices and images with `Restorer`'s.

    Args:
        bundle: An opened bundle.
        target: The folder; a file of that name is replaced.

    Returns:
        The name of the file, and what it is in words.

    Raises:
        ArtefactError: If files have changed since the bundle was opened.
        ConfigError: If the packages of the extra `onnx` are missing.
        ExportError: If a part has no form in ONNX, or does not do the same in it.
        StorageError: If the folder cannot be written.
    """
    data = to_routed(bundle)
    images = sample_images()
    num_experts = _check(data, Restorer(bundle), images)
    target.write_bytes("routed.onnx", data)
    return "routed.onnx", (
        f"{len(bundle.tree.experts())} experts in one graph; the choices for {len(images)} images "
        f"({num_experts} different ones) are those of torch"
    )


def to_routed(bundle: Bundle) -> bytes:
    """Return a bundle as one graph, each expert of which has been compared with torch.

    Raises:
        ArtefactError: If files have changed since the bundle was opened.
        ConfigError: If the packages of the extra `onnx` are missing.
        ExportError: If a part has no form in ONNX, or does not do the same in it.
    """
    try:
        import onnx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "one graph needs the package onnx, which is not installed: pip install "
            "'expertree[onnx]'"
        ) from error
    branches = []
    for node in bundle.tree.experts():
        network = bundle.load_expert(node)
        data = to_onnx(Portable(bundle.backbone(node), network))
        check_images("ONNX Runtime", restoring(data), network)
        branches.append((node, onnx.load_model_from_string(data).graph))
    chooser = onnx.load_model_from_string(to_onnx(Chooser(bundle), outputs=(EXPERT,)))
    graph = chooser.graph
    chain = _chain(branches)
    graph.initializer.extend(chain.initializer)
    graph.node.extend(chain.node)
    graph.node.append(onnx.helper.make_node("Identity", [chain.output[0].name], [OUTPUT]))
    graph.output.insert(0, _image(OUTPUT))
    whole = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=chooser.ir_version,
        producer_name="expertree",
        doc_string=f"expertree bundle {bundle.manifest.digest}",
    )
    onnx.checker.check_model(whole)
    return bytes(whole.SerializeToString())


def sample_images() -> list[Float[Tensor, "1 3 h w"]]:
    """Return images of many looks and sizes: soft, noisy, dark, pale; smaller than a window too."""
    rng, images = np.random.default_rng(0), []
    for place in range(12):
        height, width = (int(side) for side in rng.integers(40, 500, 2))
        rows, columns = np.linspace(0, 6, height)[:, None], np.linspace(0, 9, width)[None, :]
        soft = 0.5 + 0.3 * np.sin(rows + place) * np.cos(columns * rng.uniform(0.5, 3))
        noisy = soft[None] + rng.normal(0, 0.25 * (place % 4) / 3, (3, height, width))
        gain, lift = ((1.0, 0.0), (0.2, 0.0), (0.4, 0.55))[place % 3]
        pixels = (noisy * gain + lift).clip(0, 1).astype(np.float32)
        images.append(torch.from_numpy(pixels)[None])
    return images


def _check(data: bytes, restorer: Restorer, images: Sequence[Tensor]) -> int:
    """Compare choices and images, and return how many different choices there were.

    Raises:
        ExportError: If they differ.
    """
    run, seen = onnx_runner(data), set()
    for image in images:
        found, chosen = run(image)
        restoration = restorer.restore(image)
        wanted = AS_IS if restoration.route.expert is None else restoration.route.expert
        if int(chosen.item()) != wanted:
            raise ExportError(
                f"the graph chooses {int(chosen.item())} where torch chooses {wanted}, for an "
                f"image {list(image.shape)}; this bundle cannot be exported as one graph"
            )
        difference = float(np.abs(found.clip(0, 1) - restoration.image.numpy()).max())
        if not difference <= TOLERANCE:
            raise ExportError(f"the graph differs from torch by {difference:.2g} of 1")
        seen.add(wanted)
    return len(seen)


def _chain(branches: Sequence[tuple[int, Any]]) -> Any:  # noqa: ANN401 - onnx has no types
    """Return a graph that asks for one expert after the other; its one output is the image."""
    from onnx import TensorProto, compose, helper  # noqa: PLC0415 - an extra

    otherwise = helper.make_graph(
        [helper.make_node("Identity", [INPUT], ["as_is/image"])],
        "as_is",
        [],
        [_image("as_is/image")],
    )
    for node, graph in reversed(branches):
        prefix = f"expert_{node:03d}/"
        then = compose.add_prefix_graph(graph, prefix, rename_inputs=False)
        del then.input[:]
        then.name, found = prefix.rstrip("/"), f"{prefix}found"
        wanted = helper.make_tensor(f"{prefix}node", TensorProto.INT64, [1], [node])
        asked = helper.make_node("Equal", [EXPERT, f"{prefix}node"], [f"{prefix}is_it"])
        chosen = helper.make_node(
            "If", [f"{prefix}is_it"], [found], then_branch=then, else_branch=otherwise
        )
        otherwise = helper.make_graph(
            [asked, chosen], f"{prefix}or_else", [], [_image(found)], initializer=[wanted]
        )
    return otherwise


def _image(name: str) -> Any:  # noqa: ANN401 - onnx has no types
    from onnx import TensorProto, helper  # noqa: PLC0415 - an extra

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(_SIDES))
