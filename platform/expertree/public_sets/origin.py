"""What is known of a bundle: its hash and cost, and the report of the run that made it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from expertree.errors import ExpertreeError
from expertree.experts.backbones import describe_backbone
from expertree.experts.weights import read_card
from expertree.restorer import Bundle

_REPORT = "report.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What is known of a model.

    Attributes:
        model: Digest of the bundle.
        title: Title of the configuration that it was built with; `a bundle` if unknown.
        commit: Commit of the source that it was built with.
        seed: Seed of the build.
        training_hours: Hours of the lanes that trained its experts.
        training_samples: Patches that the experts on the longest path saw in training.
        num_parameters: Scalars in one expert, the largest.
        num_experts: Number of experts.
        multiply_adds_256: Multiplications with addition of one expert, the costliest, for an image
            of 256 x 256 px.
    """

    model: str
    title: str
    commit: str | None
    seed: int | None
    training_hours: float | None
    training_samples: int | None
    num_parameters: int
    num_experts: int
    multiply_adds_256: int

    @property
    def note(self) -> str:
        """What it is, in a few words."""
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


def origin_of(bundle: Bundle) -> Origin:
    """Return what is known of a bundle; a report beside it is read if it is of this bundle's tree.

    Raises:
        ArtefactError: If the bundle has changed since it was opened.
    """
    report = _report_of(bundle)
    experts = bundle.manifest.experts
    folders = (bundle.directory.sub(entry.folder) for entry in experts)
    costs = [describe_backbone(read_card(folder).backbone).multiply_adds_512 for folder in folders]
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
        training_samples=max((sample for sample in samples if sample), default=None),
        num_parameters=max(entry.num_parameters for entry in experts),
        num_experts=len(experts),
        # A convolutional network costs the same for each pixel.
        multiply_adds_256=max(costs) // 4,
    )


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
