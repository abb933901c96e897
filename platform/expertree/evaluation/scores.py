"""What each network reached on each patch, and what each way of choosing makes of that.

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
"""Stands among nodes for none of them: the picture is left as it is."""

HARM_DB = 0.1
"""A patch is harmed by what makes it worse than the input by more than this."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """What one network (or the input itself) reached on N patches.

    Attributes:
        l1: Mean absolute error, of images in [0, 1].
        psnr_rgb: dB, 8 bit.
        psnr_y: dB, BT.601 luma.
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
        tasks: For each patch its degradations in order; none for a clean image.
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
class Reached:
    """What a method reached, patch by patch.

    Attributes:
        scores: Of its results.
        harmed: 1 where the result is worse than the input by more than `HARM_DB`, else 0; between
            them for a method that chooses at random.
    """

    scores: Scores
    harmed: Float[np.ndarray, " patches"]


def is_as_is(expert: int | None) -> bool:
    """Whether a route's expert is none: the picture is left as it is."""
    return expert is None


def choices(tree: Tree, data: Evaluated) -> dict[str, Int[np.ndarray, " patches"]]:
    """The node that each way of choosing takes, patch by patch; `AS_IS` for none.

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
    """The scores of a choice: of a node's expert, and the input's where there is none.

    Args:
        tree: The hierarchy.
        data: The evaluation set.
        nodes: One a patch, or `AS_IS`.
    """
    rows = np.arange(len(nodes))
    return Scores(**{name: _with_input(tree, data, name)[rows, nodes] for name in _FIELDS})


def methods(tree: Tree, data: Evaluated) -> dict[str, Reached]:
    """What each row of a table reached, in the order of the rows; see `METHODS`."""
    found = {"input": data.inputs}
    if data.classical is not None:
        found["classical"] = data.classical
    found |= data.comparisons
    reached = {name: _reached(data, scores) for name, scores in found.items()}
    reached["random_expert"] = _random(tree, data)
    for name, nodes in choices(tree, data).items():
        reached[name] = _reached(data, chosen_scores(tree, data, nodes))
    return reached


def _reached(data: Evaluated, scores: Scores) -> Reached:
    harmed = scores.psnr_rgb < data.inputs.psnr_rgb - HARM_DB
    return Reached(scores=scores, harmed=harmed.astype(np.float64))


def _random(tree: Tree, data: Evaluated) -> Reached:
    """What is to be expected of any of the tree's experts, all of them equally likely."""
    each = [_reached(data, data.experts[node]) for node in tree.experts()]
    return Reached(
        scores=Scores(
            **{name: np.mean([getattr(one.scores, name) for one in each], 0) for name in _FIELDS}
        ),
        harmed=np.mean([one.harmed for one in each], 0),
    )


def _with_input(tree: Tree, data: Evaluated, name: str) -> Float[np.ndarray, "patches choices"]:
    """A column a node, and the input's as the last, which `AS_IS` points to."""
    by_expert = {node: getattr(scores, name) for node, scores in data.experts.items()}
    return np.column_stack([node_table(by_expert, tree), getattr(data.inputs, name)])


def _best(
    psnr: Float[np.ndarray, "patches choices"], candidates: Int[np.ndarray, "patches candidates"]
) -> Int[np.ndarray, " patches"]:
    """Of each row's candidates the one with the best PSNR; of equals the first."""
    choice = np.take_along_axis(psnr, candidates, axis=1).argmax(axis=1)
    return np.take_along_axis(candidates, choice[:, None], axis=1)[:, 0]
