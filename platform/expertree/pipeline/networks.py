"""Decides which network each node's expert is, where its training starts, and how long it is."""

import dataclasses
from collections.abc import Mapping

from expertree.errors import ConfigError
from expertree.experts import AdapterConfig, BackboneConfig
from expertree.experts.published import check_published, find_published
from expertree.hierarchy import ROOT, Tree
from expertree.pipeline.settings import CLEAN, MIXED, ExpertsConfig, NodeRule
from expertree.storage import Storage

Shares = Mapping[int, Mapping[str, float]]
"""The shares of each node's samples that are of each degradation alone, `mixed` or `clean`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NetworkChoice:
    """The network of a node's expert and its first weights: at most one of `parent` and `file`.

    Attributes:
        backbone: The network.
        parent: Node of the expert that it starts from.
        file: File of published weights that it starts from.
        adapter: Adapter on the network of `parent`, which is the root; None for a whole network.
        start: Weights that it starts from, in words.
        num_samples: Samples that it sees; None for those of its level.
    """

    backbone: BackboneConfig
    parent: int | None
    file: str | None
    adapter: AdapterConfig | None
    start: str
    num_samples: int | None = None


def choose_further(
    config: ExpertsConfig,
    tree: Tree,
    shares: Shares,
    own: Mapping[int, BackboneConfig],
    num_samples: int,
) -> dict[int, NetworkChoice]:
    """Return the networks that are trained further, each from its own weights; parents first.

    Args:
        config: Rules, which may give nodes samples of their own number.
        tree: The tree; a node without samples keeps its expert.
        shares: Shares of each node's samples, by label.
        own: Network of each node's expert.
        num_samples: Samples where no rule gives any; 0 leaves an expert as it is.

    Raises:
        ConfigError: If a rule names a node that the tree does not have.
    """
    check_nodes(config, tree)
    chosen: dict[int, NetworkChoice] = {}
    for node in tree.experts():
        given = rule_of(config, tree, node, shares).num_samples
        wanted = num_samples if given is None else given
        if wanted and tree.nodes[node].num_samples:
            chosen[node] = NetworkChoice(
                backbone=own[node],
                parent=node,
                file=None,
                adapter=None,
                start="the bundle's weights",
                num_samples=wanted,
            )
    return chosen


def choose_networks(config: ExpertsConfig, tree: Tree, shares: Shares) -> dict[int, NetworkChoice]:
    """Choose the network of every node that has an expert, parents first.

    Args:
        config: Rules, and the defaults where none fits.
        tree: The tree.
        shares: Shares of each node's samples, by label.

    Raises:
        ConfigError: If a rule names a node that the tree does not have.
    """
    check_nodes(config, tree)
    chosen: dict[int, NetworkChoice] = {}
    for node in tree.experts():
        rule = rule_of(config, tree, node, shares)
        adapted = _choose_adapter(config, rule, chosen.get(ROOT))
        above = _above(tree, node, chosen, config.start_from)
        network = adapted or _choose(config, rule, above, chosen.get(ROOT))
        chosen[node] = dataclasses.replace(network, num_samples=rule.num_samples)
    return chosen


def rule_of(config: ExpertsConfig, tree: Tree, node: int, shares: Shares) -> NodeRule:
    """Return the first rule that fits a node; one that says nothing where none does."""
    return next((r for r in config.rules if _fits(r, tree, node, shares)), NodeRule())


def check_weights(config: ExpertsConfig) -> None:
    """Check that published weights fit their networks, before any work starts.

    Raises:
        ArtefactError: If they do not; the message says which weights, and how many.
    """
    default = NodeRule(backbone=config.backbone, init=config.init)
    for rule in (default, *config.rules):
        if rule.init is not None:
            check_published(rule.backbone or config.backbone, find_published(rule.init))


def _choose_adapter(
    config: ExpertsConfig, rule: NodeRule, root: NetworkChoice | None
) -> NetworkChoice | None:
    """Return an adapter on the root; None where none is wanted or the rule forbids it."""
    if config.adapter is None or root is None or rule.init is not None:
        return None
    if (rule.backbone or config.backbone) != root.backbone:
        return None
    return NetworkChoice(
        backbone=root.backbone,
        parent=ROOT,
        file=None,
        adapter=config.adapter,
        start=f"the root's weights, as an adapter of rank {config.adapter.rank}",
    )


def _choose(
    config: ExpertsConfig,
    rule: NodeRule,
    above: tuple[int, NetworkChoice] | None,
    root: NetworkChoice | None,
) -> NetworkChoice:
    """Return a whole network, with the weights that it starts from."""
    backbone = rule.backbone or config.backbone
    file = rule.init or (config.init if backbone == config.backbone else None)
    parent, reason = None, ""
    if above is not None and config.warm_start and rule.init is None:
        if above[1].backbone == backbone:
            parent, file = above[0], None
        else:
            reason = f", because its parent is another network ({above[1].backbone.name})"
    if parent is not None:
        start = "its parent's weights" if config.start_from == "parent" else "the root's weights"
    elif file is not None:
        start = f"published weights ({Storage(file).name})"
    else:
        start = "random weights"
    if config.adapter is not None and root is not None:
        reason = f", no adapter, because {_no_adapter(rule, root)}"
    return NetworkChoice(
        backbone=backbone, parent=parent, file=file, adapter=None, start=start + reason
    )


def _no_adapter(rule: NodeRule, root: NetworkChoice) -> str:
    if rule.init is not None:
        return "a rule gives it weights of its own"
    return f"the root is another network ({root.backbone.name})"


def _above(
    tree: Tree, node: int, chosen: Mapping[int, NetworkChoice], start_from: str
) -> tuple[int, NetworkChoice] | None:
    parent = tree.parent_expert(node)
    if parent is not None and start_from == "root":
        parent = ROOT
    return None if parent is None else (parent, chosen[parent])


def _fits(rule: NodeRule, tree: Tree, node: int, shares: Shares) -> bool:
    if rule.nodes and node not in {tree.expert_of(index) for index in rule.nodes}:
        return False
    if rule.degradation is None:
        return True
    return shares[node].get(rule.degradation, 0.0) >= rule.min_share


def check_nodes(config: ExpertsConfig, tree: Tree) -> None:
    """Raise ConfigError if a rule names a node that the tree does not have."""
    strange = sorted({n for rule in config.rules for n in rule.nodes if n >= len(tree.nodes)})
    if strange:
        raise ConfigError(
            f"experts.rules names nodes {strange}; the tree has nodes 0 to {len(tree.nodes) - 1}"
        )


def label_of(tasks: tuple[str, ...]) -> str:
    """Return the label of a sample: its only degradation, `mixed` or `clean`."""
    if not tasks:
        return CLEAN
    return tasks[0] if len(tasks) == 1 else MIXED
