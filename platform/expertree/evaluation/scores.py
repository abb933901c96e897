"""The scores of each network on each patch, and of each way of choosing among the networks.

All networks are scored on all patches once, so that each method of a table (root, routed, best
level, ...) is only a choice among columns.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from expertree.hierarchy import Tree
from expertree.routing import Route, node_table
from expertree.routing.losses import choice_nodes

AS_IS = -1
"""The value in place of a node where the image is left as it is."""

HARM_DB = 0.1
"""The loss in dB against the input above which a patch counts as harmed."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """The scores of one network (or of the input itself), patch by patch.

    Attributes:
        l1: Mean absolute error, of images in [0, 1].
        psnr_rgb: PSNR over RGB in dB, 8 bit.
        psnr_y: PSNR of BT.601 luma in dB.
        ssim: Structural similarity in [-1, 1].
    """

    l1: Float[np.ndarray, " patches"]
    psnr_rgb: Float[np.ndarray, " patches"]
    psnr_y: Float[np.ndarray, " patches"]
    ssim: Float[np.ndarray, " patches"]


_FIELDS = tuple(field.name for field in dataclasses.fields(Scores))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluated:
    """One evaluation set: its patches, every network's scores on them, and the routes.

    Attributes:
        tasks: Degradations of each patch in order; none for a clean image.
        inputs: Scores of the inputs as they are.
        comparisons: Scores of the networks that the tree is compared with, by method.
        experts: Scores of each expert, by node index.
        routes: The router's choice for each patch.
        classical: Scores of the best classical methods, where they were measured.
    """

    tasks: Sequence[tuple[str, ...]]
    inputs: Scores
    comparisons: Mapping[str, Scores]
    experts: Mapping[int, Scores]
    routes: Sequence[Route]
    classical: Scores | None = None

    @property
    def leaves(self) -> Int[np.ndarray, " patches"]:
        """The leaf that the degradation router chose for each patch."""
        return np.array([route.leaf for route in self.routes], dtype=np.int64)

    @property
    def levels(self) -> Int[np.ndarray, " patches"]:
        """The level that the granularity router chose for each patch."""
        return np.array([route.level for route in self.routes], dtype=np.int64)

    @property
    def nodes(self) -> Int[np.ndarray, " patches"]:
        """The node whose expert each patch was given; `AS_IS` where it was left as it is."""
        return np.array(
            [AS_IS if is_as_is(route.expert) else route.node for route in self.routes],
            dtype=np.int64,
        )

    @property
    def psnr_by_expert(self) -> dict[int, Float[np.ndarray, " patches"]]:
        """PSNR of each expert, by node."""
        return {node: scores.psnr_rgb for node, scores in self.experts.items()}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MethodScores:
    """The results of a method, patch by patch.

    Attributes:
        scores: Scores of its results.
        harmed: 1 where the result is worse than the input by more than `HARM_DB`, else 0; between
            them for a method that chooses at random.
    """

    scores: Scores
    harmed: Float[np.ndarray, " patches"]


def is_as_is(expert: int | None) -> bool:
    """Return whether a route has no expert, so that the image is left as it is."""
    return expert is None


def choices(tree: Tree, data: Evaluated) -> dict[str, Int[np.ndarray, " patches"]]:
    """Return the node that each way of choosing takes, patch by patch; `AS_IS` for none.

    Returns:
        `root` (the tree's own root expert); `finest_level` (the degradation router alone);
        `routed`; `best_level` (on the chosen path, paper table O); `best` (of all experts and the
        input).
    """
    psnr = _with_input(tree, data, "psnr_rgb")
    paths = choice_nodes(tree)[data.leaves]
    everyone = np.broadcast_to([*range(len(tree.nodes)), AS_IS], psnr.shape)
    return {
        "root": np.zeros(len(paths), dtype=np.int64),
        "finest_level": paths[:, -1],
        "routed": data.nodes,
        "best_level": _best(psnr, paths),
        "best": _best(psnr, everyone),
    }


def chosen_scores(tree: Tree, data: Evaluated, nodes: Int[np.ndarray, " patches"]) -> Scores:
    """Return the scores of a choice: those of the node's expert, or the input's for `AS_IS`.

    Args:
        tree: The hierarchy.
        data: The evaluation set.
        nodes: Chosen node of each patch, or `AS_IS`.
    """
    rows = np.arange(len(nodes))
    return Scores(**{name: _with_input(tree, data, name)[rows, nodes] for name in _FIELDS})


def methods(tree: Tree, data: Evaluated) -> dict[str, MethodScores]:
    """Return what each method reached, in the order of a table's rows; see `METHODS`."""
    found = {"input": data.inputs}
    if data.classical is not None:
        found["classical"] = data.classical
    found |= data.comparisons
    reached = {name: _method_scores(data, scores) for name, scores in found.items()}
    reached["random_expert"] = _random(tree, data)
    for name, nodes in choices(tree, data).items():
        reached[name] = _method_scores(data, chosen_scores(tree, data, nodes))
    return reached


def _method_scores(data: Evaluated, scores: Scores) -> MethodScores:
    harmed = scores.psnr_rgb < data.inputs.psnr_rgb - HARM_DB
    return MethodScores(scores=scores, harmed=harmed.astype(np.float64))


def _random(tree: Tree, data: Evaluated) -> MethodScores:
    """Return the mean over the tree's experts, as if one were chosen at random."""
    each = [_method_scores(data, data.experts[node]) for node in tree.experts()]
    return MethodScores(
        scores=Scores(
            **{name: np.mean([getattr(one.scores, name) for one in each], 0) for name in _FIELDS}
        ),
        harmed=np.mean([one.harmed for one in each], 0),
    )


def _with_input(tree: Tree, data: Evaluated, name: str) -> Float[np.ndarray, "patches choices"]:
    """Return a column for each node, and last the input's, which the index `AS_IS` takes."""
    by_expert = {node: getattr(scores, name) for node, scores in data.experts.items()}
    return np.column_stack([node_table(by_expert, tree), getattr(data.inputs, name)])


def _best(
    psnr: Float[np.ndarray, "patches choices"], candidates: Int[np.ndarray, "patches candidates"]
) -> Int[np.ndarray, " patches"]:
    """Return the candidate with the best PSNR in each row; the first of equals."""
    choice = np.take_along_axis(psnr, candidates, axis=1).argmax(axis=1)
    return np.take_along_axis(candidates, choice[:, None], axis=1)[:, 0]
