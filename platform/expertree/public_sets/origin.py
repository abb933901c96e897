"""What is known of a bundle: its hash and cost, and the report of the run that made it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from expertree.errors import ExpertreeError
from expertree.experts.backbones import describe_backbone
from expertree.experts.weights import Card, read_card
from expertree.hierarchy import ROOT
from expertree.restorer import Bundle
from expertree.routing.costs import size_of, to_choose, to_look

_REPORT = "report.json"
_SIDE_PX = 256


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What is known of a model.

    Attributes:
        model: Digest of the bundle.
        title: Title of the configuration that it was built with; `a bundle` if unknown.
        commit: Commit of the source that it was built with.
        seed: Seed of the build.
        training_hours: Hours of the lanes that trained its experts.
        training_samples: Patches that its experts saw in training, all of them.
        path_samples: Patches that the experts on the longest path saw.
        num_parameters: Scalars of its experts, extractor and routers. Of an expert that restores
            all images, those of its network.
        num_active_parameters: Scalars of them that run for an image; the most of all experts.
        num_experts: Number of experts.
        multiply_adds_256: Multiplications with addition for an image of 256 x 256 px: of the
            extractor, of what routers measure, and of one expert, the costliest.
        expert: Node of the expert that restores all images; None where the routers choose.
    """

    model: str
    title: str
    commit: str | None
    seed: int | None
    training_hours: float | None
    training_samples: int | None
    path_samples: int | None
    num_parameters: int
    num_active_parameters: int
    num_experts: int
    multiply_adds_256: int
    expert: int | None = None

    @property
    def note(self) -> str:
        """What it is, in a few words."""
        if self.expert is not None:
            return f"expert {self.expert} for every image"
        return f"one of {self.num_experts} experts for each image, or none; the task is not told"

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        known = {
            "bundle": self.model[:12],
            "commit": self.commit,
            "seed": self.seed,
            "training": None if self.training_hours is None else f"{self.training_hours:.2f} h",
        }
        return ", ".join(f"{key} {value}" for key, value in known.items() if value is not None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Cost:
    """What a model, or one expert of it, takes; see `Origin`."""

    training_samples: int | None
    num_parameters: int
    num_active_parameters: int
    multiply_adds_256: int


def origin_of(bundle: Bundle, expert: int | None = None) -> Origin:
    """Return what is known of a bundle; a report beside it is read if it is of this bundle's tree.

    Args:
        bundle: The bundle.
        expert: Node of the expert that restores all images; None where the routers choose.

    Raises:
        ArtefactError: If the bundle has changed since it was opened.
    """
    report = _report_of(bundle)
    cost = _cost_of(bundle) if expert is None else _cost_of_one(bundle, expert)
    trained_s = report.get("cost", {}).get("expert_training_s")
    samples = [
        row.get("num_samples")
        for table in report.get("tables", ())
        for row in table.get("rows", ())
        if row.get("method") == "routed"
    ]
    return Origin(
        model=bundle.manifest.digest,
        title=report.get("title", "a bundle"),
        commit=report.get("commit"),
        seed=report.get("config", {}).get("seed"),
        training_hours=None if trained_s is None else trained_s / 3600.0,
        training_samples=cost.training_samples,
        path_samples=max((sample for sample in samples if sample), default=None),
        num_parameters=cost.num_parameters,
        num_active_parameters=cost.num_active_parameters,
        num_experts=len(bundle.manifest.experts),
        multiply_adds_256=cost.multiply_adds_256,
        expert=expert,
    )


def _cost_of(bundle: Bundle) -> _Cost:
    cards = [_card_of(bundle, entry.node) for entry in bundle.manifest.experts]
    networks = [describe_backbone(card.backbone) for card in cards]
    own = [
        network.num_parameters if card.adapter is None else card.num_parameters
        for card, network in zip(cards, networks, strict=True)
    ]
    beside = size_of(bundle.extractor) + size_of(bundle.router)
    return _Cost(
        training_samples=sum({card.key: card.num_samples for card in cards}.values()),
        num_parameters=beside + sum(own),
        num_active_parameters=beside + max(one.num_active_parameters for one in networks),
        multiply_adds_256=to_choose(bundle.extractor, bundle.router, _SIDE_PX)
        + max(_of_network(bundle, entry.node) for entry in bundle.manifest.experts),
    )


def _cost_of_one(bundle: Bundle, node: int) -> _Cost:
    """Return the cost of one expert; the samples behind one below the root are in no bundle."""
    network = describe_backbone(bundle.backbone(node))
    return _Cost(
        training_samples=_card_of(bundle, node).num_samples if node == ROOT else None,
        num_parameters=network.num_parameters,
        num_active_parameters=network.num_active_parameters,
        multiply_adds_256=_of_network(bundle, node),
    )


def _of_network(bundle: Bundle, node: int) -> int:
    """Return the multiply-adds of an expert, and of looking for what it is told."""
    backbone = bundle.backbone(node)
    # A convolutional network costs the same for each pixel.
    own = describe_backbone(backbone).multiply_adds_512 * _SIDE_PX**2 // 512**2
    return own + to_look(bundle.extractor, backbone.seen, _SIDE_PX)


def _card_of(bundle: Bundle, node: int) -> Card:
    return read_card(bundle.directory.sub(bundle.entry(node).folder))


def _report_of(bundle: Bundle) -> Mapping[str, Any]:
    """Return the report beside a bundle; nothing if there is none, or it is of another tree."""
    beside = bundle.directory.above()
    try:
        if not beside.exists(_REPORT):
            return {}
        report = cast("dict[str, Any]", beside.read_json(_REPORT))
    except ExpertreeError:
        return {}
    nodes = report.get("tree", {}).get("nodes", [])
    samples = {node.get("index"): node.get("num_samples") for node in nodes}
    told = all(samples.get(one.node) == one.num_samples for one in bundle.manifest.experts)
    return report if told else {}
