"""Measure how much a better choice than the routers' would have gained (paper 000, table O)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from expertree.hierarchy import ROOT, Tree
from expertree.routing.decision import Route
from expertree.routing.losses import choice_nodes


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """Routes compared with the best that the experts could have done; mean PSNR in dB.

    A sample that is left as it is counts with its input's PSNR where it is routed, and with the
    experts' elsewhere: left alone rightly, it is better than all of them.

    Attributes:
        num_samples: Samples audited.
        psnr_root: PSNR with the root's expert.
        psnr_finest: PSNR with the expert at the end of the chosen path.
        psnr_routed: PSNR with the chosen expert, or of the input where that is left as it is.
        psnr_best_level: PSNR with the best level on the path of the chosen leaf (the paper's
            oracle), which is always an expert's.
        psnr_best: PSNR with the best of all experts.
        as_is: Share of samples that are left as they are.
        agreement: Share of samples for which no level on the path is better than what was chosen.
        lost_level_db: `psnr_best_level` - `psnr_routed`.
        lost_db: `psnr_best` - `psnr_routed`.
        routed_levels: Share of samples by chosen level; of one that is left as it is, the level
            that would serve it.
        best_levels: Share of samples by best level on the path; of equals the coarsest.
    """

    num_samples: int
    psnr_root: float
    psnr_finest: float
    psnr_routed: float
    psnr_best_level: float
    psnr_best: float
    as_is: float
    agreement: float
    lost_level_db: float
    lost_db: float
    routed_levels: tuple[float, ...]
    best_levels: tuple[float, ...]

    @property
    def mean_level(self) -> float:
        """Mean of the chosen levels; 0 is the root's."""
        return _mean_level(self.routed_levels)

    @property
    def best_mean_level(self) -> float:
        """Mean of the best levels on the path."""
        return _mean_level(self.best_levels)


def node_table(
    by_expert: Mapping[int, Float[np.ndarray, " samples"]],
    tree: Tree,
    *,
    absent: Callable[..., Any] | None = None,
) -> Float[np.ndarray, "samples nodes"]:
    """Return one column for each node, its expert's: nodes of a chain share their expert.

    Args:
        by_expert: Scores of each expert, by its node.
        tree: The tree.
        absent: Function that stands in for the root's expert where a tree does without it, given
            the others' columns stacked: numpy's `max` or `min`, whichever is worse. By default the
            root's is needed.

    Raises:
        ArtefactError: If the experts are not exactly the tree's.
    """
    if absent is not None and ROOT not in by_expert:
        by_expert = {ROOT: absent(np.stack(list(by_expert.values())), axis=0), **by_expert}
    tree.check_experts(by_expert)
    return np.stack([by_expert[tree.expert_of(node.index)] for node in tree.nodes], axis=1)


def routed_scores(
    routes: Sequence[Route],
    experts: Float[np.ndarray, "samples nodes"],
    inputs: Float[np.ndarray, " samples"],
) -> Float[np.ndarray, " samples"]:
    """Return the score of each route: its node's expert's, or that of the input left as it is.

    Args:
        routes: A route for each sample.
        experts: The score of each node's expert on each sample; see `node_table`.
        inputs: The score of each sample's input.
    """
    chosen = experts[np.arange(len(routes)), [route.node for route in routes]]
    return np.where([route.expert is None for route in routes], inputs, chosen)


def audit_routes(
    routes: Sequence[Route],
    psnr: Float[np.ndarray, "samples nodes"],
    tree: Tree,
    *,
    inputs: Float[np.ndarray, " samples"],
) -> Audit:
    """Compare routes with oracles that know each expert's PSNR.

    Args:
        routes: A route for each sample.
        psnr: PSNR of each node's expert on each sample, in dB; see `node_table`.
        tree: The tree.
        inputs: PSNR of each sample's input, in dB.

    Raises:
        ValueError: If there are no samples, or the tables do not fit the routes and the tree.
    """
    if not routes or psnr.shape != (len(routes), len(tree.nodes)) or len(inputs) != len(routes):
        raise ValueError(
            f"{len(routes)} routes through a tree of {len(tree.nodes)} nodes need a PSNR table of "
            f"that shape and at least one row, got {list(psnr.shape)}, and as many inputs, got "
            f"{len(inputs)}"
        )
    rows = np.arange(len(routes))
    paths = choice_nodes(tree)[[route.leaf for route in routes]]
    on_path = psnr[rows[:, None], paths]
    routed = routed_scores(routes, psnr, inputs)
    best_level, best = on_path.max(axis=1), psnr.max(axis=1)
    return Audit(
        num_samples=len(routes),
        psnr_root=float(psnr[:, 0].mean()),
        psnr_finest=float(on_path[:, -1].mean()),
        psnr_routed=float(routed.mean()),
        psnr_best_level=float(best_level.mean()),
        psnr_best=float(best.mean()),
        as_is=float(np.mean([route.expert is None for route in routes])),
        agreement=float((routed >= best_level).mean()),
        lost_level_db=float((best_level - routed).mean()),
        lost_db=float((best - routed).mean()),
        routed_levels=_shares([route.level for route in routes], tree.num_levels),
        best_levels=_shares(on_path.argmax(axis=1).tolist(), tree.num_levels),
    )


def _shares(levels: Sequence[int], num_levels: int) -> tuple[float, ...]:
    counts = np.bincount(levels, minlength=num_levels)
    return tuple((counts / len(levels)).tolist())


def _mean_level(shares: Sequence[float]) -> float:
    return float(np.dot(shares, range(len(shares))))
