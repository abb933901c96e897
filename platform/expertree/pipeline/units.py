"""The units that a build trains, each a network and the samples that it sees."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from expertree.evaluation import described
from expertree.hierarchy import ROOT, Tree
from expertree.pipeline.networks import NetworkChoice
from expertree.pipeline.settings import Comparison, ExpertsConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One network to train.

    Attributes:
        role: Node of the expert; or the method, for a network that the tree is compared with.
        label: Name shown to users.
        leaves: Leaves that its training samples are from.
        num_samples: Number of samples that it sees, repeats included.
        network: Network, and the node that it starts from.
        batch_size: Samples in a step; None for the recipe's.
    """

    role: int | str
    label: str
    leaves: Sequence[int]
    num_samples: int
    network: NetworkChoice
    batch_size: int | None = None


def units_of_tree(
    config: ExpertsConfig, tree: Tree, networks: Mapping[int, NetworkChoice]
) -> Iterator[Unit]:
    """Yield the experts of those nodes of a tree that networks are given for, parents first."""
    for node in tree.experts():
        if node not in networks:
            continue
        network = networks[node]
        from_root = network.adapter is not None or config.start_from == "root"
        yield Unit(
            role=node,
            label=label_of_role(tree, node),
            leaves=tree.nodes[node].leaves,
            num_samples=network.num_samples
            or config.samples_per_expert
            or _num_samples(
                tree, node, config.num_samples, from_root=from_root and network.parent == ROOT
            ),
            network=network,
        )


def units_compared(
    config: ExpertsConfig, tree: Tree, root: NetworkChoice, num_samples: int
) -> Iterator[Unit]:
    """Yield the networks, each trained on everything, that a tree is compared with.

    Args:
        config: Settings that name them.
        tree: The tree.
        root: Network of its root.
        num_samples: Samples of all experts of the tree together.
    """
    path = config.samples_of_path(tree.num_levels)
    for one in config.comparisons:
        yield Unit(
            role=one.name,
            label=label_of_role(tree, one.name),
            leaves=range(tree.num_leaves),
            num_samples=one.count(path=path, tree=num_samples),
            network=_network_of(one, root),
            batch_size=one.batch_size,
        )


def _network_of(comparison: Comparison, root: NetworkChoice) -> NetworkChoice:
    """Return the root's network, or the comparison's own, which starts from random weights."""
    if comparison.backbone is None:
        return root
    return NetworkChoice(
        backbone=comparison.backbone,
        parent=None,
        file=None,
        adapter=None,
        start="random weights",
    )


def _num_samples(tree: Tree, expert: int, by_level: Sequence[int], *, from_root: bool) -> int:
    """Return the number of samples that an expert sees: those of each level that it serves.

    A leaf also serves the levels that the data did not give (`hierarchy.method=adaptive`). One that
    starts from the root, and not from its parent, also sees the samples of the levels between. So
    as many samples stand behind its weights as if it had started from its parent.
    """
    levels = tree.levels_of_expert(expert)
    beyond = by_level[tree.num_levels :] if tree.num_levels - 1 in levels else ()
    if from_root:
        levels = tuple(range(max(tree.levels_of_expert(ROOT)) + 1, max(levels) + 1))
    return sum(by_level[level] for level in levels) + sum(beyond)


def label_of_role(tree: Tree, role: int | str) -> str:
    """Return the name of a node's expert, or of a network that the tree is compared with."""
    if isinstance(role, str):
        return described(role).name
    if role == ROOT:
        return "root"
    level = tree.nodes[role].level
    number = role - tree.nodes_of_level(level)[0].index
    return f"level {level}, group {number}"
