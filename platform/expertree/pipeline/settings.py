"""The configuration of a build: one section for each part, each default in its dataclass."""

import dataclasses
import itertools
from typing import Literal

from expertree.degradation.maps import MapsConfig
from expertree.degradation.registry import REGISTRY
from expertree.degradation.table import DegradationConfig
from expertree.embedding import ExtractorConfig
from expertree.errors import ConfigError
from expertree.evaluation.methods import METHODS, ONE_NETWORK, ONE_NETWORK_TREE
from expertree.experts import AdapterConfig, RecipeConfig
from expertree.experts.backbones import BACKBONES, Backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.hierarchy import GrowthLimits, HierarchyConfig
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.data_config import DataConfig, check_folder
from expertree.routing import RouterConfig
from expertree.tracking import TrackingConfig

CLEAN = "clean"
"""The name of no degradation, where one is named."""

MIXED = "mixed"
"""The name of several degradations at once, where one is named."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PhotographsConfig:
    """The clean photographs to train and validate on, and how pictures are divided."""

    source: str = "bundled"
    """`bundled` for the photographs that scikit-image and scikit-learn ship, or a folder, which
    every node of a cluster must see; no URI. Several sources, and pairs: `data.sources`."""

    val_fraction: float = 0.3
    """Share of the photographs, and of the scenes of pairs, that only validation sees."""

    route_fraction: float = 0.2
    """Share that only routers are trained on: on an expert's own training images the finest experts
    look better than they are (METHOD section 5)."""

    maps: MapsConfig = MapsConfig()
    """Real depth, illumination, rain and snow in place of the procedural ones; folders that every
    node of a cluster must see."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a folder that is none, ValueError for impossible fractions."""
        maps, snow = self.maps, self.maps.snow
        for key, folder in {
            "source": self.source,
            "maps.depth.folder": maps.depth.folder,
            "maps.illumination": maps.illumination,
            "maps.rain": maps.rain,
            "maps.snow.small": snow.small,
            "maps.snow.medium": snow.medium,
            "maps.snow.large": snow.large,
        }.items():
            check_folder(f"photographs.{key}", folder)
        fractions = (self.val_fraction, self.route_fraction)
        if not (min(fractions) >= 0 and sum(fractions) < 1):
            raise ValueError(
                "val_fraction and route_fraction must be at least 0 and below 1 together, got "
                f"{self.val_fraction} and {self.route_fraction}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NodeRule:
    """A rule that gives some nodes another network, other weights to start from, or more samples.

    Attributes:
        nodes: Nodes by the numbers that the report shows; empty for any.
        degradation: Degradation that alone makes up at least `min_share` of a node's training
            samples; `mixed` stands for several at once; null for any.
        min_share: Least share of the node's samples, in (0, 1]; see `degradation`.
        backbone: The network of these nodes; null for the usual one.
        init: A file of published weights to start from, in place of the parent's weights.
        num_samples: Samples that these nodes' experts see; null for those of their level, or of
            `finetune`, where 0 leaves an expert as it is.
    """

    nodes: tuple[int, ...] = ()
    degradation: str | None = None
    min_share: float = 0.5
    backbone: Backbone | None = None
    init: str | None = None
    num_samples: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for an impossible share or node number."""
        if not 0.0 < self.min_share <= 1.0:
            raise ValueError(f"min_share must lie in (0, 1], got {self.min_share}")
        if self.nodes and min(self.nodes) < 0:
            raise ValueError(f"nodes are numbers from 0, got {list(self.nodes)}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One network trained on everything, to compare the tree with: a row of the tables.

    Attributes:
        name: Name of its row.
        num_samples: Samples that it sees; `path` for as many as any path through the tree, `tree`
            for as many as all its experts together.
        backbone: The network; null for the root's.
        batch_size: Samples in a step; null for the recipe's. What learns every degradation at once
            from many samples is better with larger batches than experts are (docs/LOG.md).
    """

    name: str
    num_samples: Literal["path", "tree"] | int = "tree"
    backbone: Backbone | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for no samples, or another row's name."""
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size of {self.name} must be at least 1: {self.batch_size}")
        if isinstance(self.num_samples, int) and self.num_samples < 1:
            raise ValueError(
                f"num_samples of {self.name} must be at least 1, got {self.num_samples}"
            )
        if not self.name or self.name in METHODS.keys() - {ONE_NETWORK, ONE_NETWORK_TREE}:
            raise ValueError(f"comparisons need names of their own, got {self.name!r}")

    def count(self, *, path: int, tree: int) -> int:
        """Return the samples that it sees, given those of a path and of the whole tree."""
        if isinstance(self.num_samples, int):
            return self.num_samples
        return path if self.num_samples == "path" else tree


SAMPLES_OF_A_PATH = Comparison(name=ONE_NETWORK, num_samples="path")
SAMPLES_OF_THE_TREE = Comparison(name=ONE_NETWORK_TREE, num_samples="tree")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertsConfig:
    """The experts: their network, and how long each level trains."""

    backbone: Backbone = NAFNetConfig()
    """Network of the experts, where no rule gives another: a name, and sizes that differ from those
    that the name stands for. By default the demo's, which a CPU trains in minutes."""

    recipe: RecipeConfig = RecipeConfig()
    """Recipe that each expert is trained by."""

    num_samples: tuple[int, ...] = (9600, 3200, 3200)
    """Samples that an expert of each level sees, coarse to fine. A node that serves several levels
    gets the samples of all of them, so that every path sees the same number. An adapter starts from
    the root, and so gets the samples of all levels from there to its own."""

    samples_per_expert: int | None = None
    """Samples that every expert sees, in place of `num_samples` by level: an expert is then the
    same in all trees that have its group, whatever the levels around it."""

    warm_start: bool = True
    """Start each expert from the weights that `start_from` names, not from random ones."""

    start_from: Literal["parent", "root"] = "parent"
    """Source of an expert's first weights: the expert above it, or the root's, which is the same in
    all trees of the same images."""

    prune: bool = False
    """Restore with the parent's expert where a node's own is worse on the routers' patches."""

    init: str | None = None
    """A file of published weights (`.pth`, safetensors) to start from in place of random ones: a
    path or a URI, which every node of a cluster must see."""

    adapter: AdapterConfig | None = None
    """Null for experts that are whole networks. Else the root is one, and the experts of all other
    nodes are adapters on it, save where a rule gives another network or weights to start from."""

    comparisons: tuple[Comparison, ...] = (SAMPLES_OF_A_PATH, SAMPLES_OF_THE_TREE)
    """Networks that are trained on everything to compare the tree with, each a row of the tables.
    By default the root's, once on the samples of a path and once on those of the whole tree."""

    rules: tuple[NodeRule, ...] = ()
    """Networks, first weights and samples by node; the first rule that fits a node holds. An expert
    whose network is not its parent's cannot start from its parent's weights."""

    def __post_init__(self) -> None:
        """Raise ValueError for an impossible choice, or fewer samples than a batch."""
        names = [one.name for one in self.comparisons]
        if len(set(names)) != len(names):
            raise ValueError(f"comparisons must have different names, got {names}")
        if self.adapter is not None and not BACKBONES[self.backbone.name].adaptable:
            raise ValueError(
                f"{self.backbone.name} has low-rank experts of its own: set adapter to null"
            )
        if self.adapter is not None and not self.warm_start:
            raise ValueError(
                "an adapter starts from the root's weights: leave warm_start on or set adapter to "
                "null"
            )
        self._check_samples()

    def _check_samples(self) -> None:
        few = [rule.num_samples for rule in self.rules if rule.num_samples]
        if few and min(few) < self.recipe.batch_size:
            raise ValueError(
                f"num_samples of a rule must be at least one batch ({self.recipe.batch_size}), "
                f"got {min(few)}"
            )
        if self.samples_per_expert is not None:
            if self.samples_per_expert < self.recipe.batch_size:
                raise ValueError(
                    f"samples_per_expert must be at least one batch ({self.recipe.batch_size}), "
                    f"got {self.samples_per_expert}"
                )
        elif not self.num_samples or min(self.num_samples) < self.recipe.batch_size:
            raise ValueError(
                f"num_samples must be at least one batch ({self.recipe.batch_size}) on each level, "
                f"got {list(self.num_samples)}"
            )

    @property
    def depends_on_group_only(self) -> bool:
        """Whether an expert depends on its group alone, and on nothing of the tree around it."""
        from_above = self.warm_start and self.adapter is None and self.start_from == "parent"
        return self.samples_per_expert is not None and not from_above and not self.rules

    def samples_by_level(self, num_levels: int) -> list[int]:
        """Return the samples that an expert of each level sees, coarse to fine."""
        if self.samples_per_expert is not None:
            return [self.samples_per_expert] * num_levels
        if not self.warm_start or (self.adapter is None and self.start_from == "parent"):
            return list(self.num_samples)
        root, *below = self.num_samples
        return [root, *itertools.accumulate(below)]

    def samples_of_path(self, num_levels: int) -> int:
        """Return the samples behind the weights at a path's end, with those it started from."""
        if self.samples_per_expert is None:
            return sum(self.num_samples)
        if not self.warm_start or num_levels == 1:
            return self.samples_per_expert
        starts_from_root = self.adapter is not None or self.start_from == "root"
        return self.samples_per_expert * (2 if starts_from_root else num_levels)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GrowConfig:
    """The existing tree to grow with new photographs or degradations, in place of a new one."""

    build: str | None = None
    """Output folder of a finished build: its extractor, tree and experts are kept, and leaves are
    added where new images fit none. It must have the same `store`."""

    limits: GrowthLimits = GrowthLimits()
    """Limits beyond which new images make a new leaf."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig:
    """The bundle whose experts are trained further on these images, in place of new ones."""

    bundle: str | None = None
    """Name, folder or URI of the bundle. Its extractor, tree and networks stay; each expert goes on
    from its weights, on the images of its group, and the routers are trained anew: they know the
    degradations of this build alone."""

    num_samples: int = 4000
    """Samples that each expert sees further, where no rule of `experts.rules` says otherwise; 0
    leaves it as it is, as having no images does."""

    def __post_init__(self) -> None:
        """Raise ValueError for fewer samples than none."""
        if self.num_samples < 0:
            raise ValueError(f"num_samples must be at least 0, got {self.num_samples}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """The whole configuration of a build."""

    title: str = "A tree of restoration experts"
    """Heading of the report."""

    seed: int = 0
    """Seed of every random draw in the build."""

    output: str = "runs/default"
    """Folder or URI for the report, the bundle and the event log."""

    store: str = "runs/store"
    """Folder or URI where results are kept by the hash of what made them; shared by all builds.
    Every node of the cluster must be able to write it."""

    data: DataConfig = DataConfig()
    photographs: PhotographsConfig = PhotographsConfig()
    degradation: DegradationConfig = DegradationConfig()
    extractor: ExtractorConfig = ExtractorConfig()
    hierarchy: HierarchyConfig = HierarchyConfig()
    experts: ExpertsConfig = ExpertsConfig()
    router: RouterConfig = RouterConfig()
    grow: GrowConfig = GrowConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()

    dry_run: bool = False
    """Only say what is in the store and what would be made; also `--dry-run`."""

    num_examples: int = 2
    """Before-and-after pictures in the report, for each degradation and distribution, and for each
    source of pairs."""

    reference: str | None = None
    """What a paper says that this takes, with its source; said beside the estimate of a dry run."""

    def __post_init__(self) -> None:
        """Raise ConfigError unless the sections fit each other: levels, patch sizes, samples."""
        self._check_samples()
        largest_px = self.experts.recipe.largest_patch_px
        if largest_px > self.degradation.patch_px:
            raise ConfigError(
                f"experts.recipe crops up to {largest_px} px (patch_px, progressive) from patches "
                f"of degradation.patch_px={self.degradation.patch_px}; raise that, or crop less"
            )
        self._check_extractor()
        if self.data.sources and self.photographs.source != PhotographsConfig().source:
            raise ConfigError(
                f"photographs.source={self.photographs.source} and data.sources both say what to "
                "train on; make it one of the sources (reader: photographs, root: the folder)"
            )
        if self.grow.build is None:
            self._check_new_tree()
        elif self.finetune.bundle is not None:
            raise ConfigError(
                "grow.build and finetune.bundle both say what to begin with; give one"
            )

    def _check_samples(self) -> None:
        """Raise ConfigError unless each level, and each node that a rule names, has samples."""
        if self.finetune.bundle is not None:
            given, batch = self.finetune.num_samples, self.experts.recipe.batch_size
            if 0 < given < batch:
                raise ConfigError(
                    f"finetune.num_samples must be 0 or at least one batch ({batch}), got {given}"
                )
            return
        levels, given = len(self.hierarchy.cut_groups), len(self.experts.num_samples)
        if given != levels and self.experts.samples_per_expert is None:
            raise ConfigError(
                f"experts.num_samples has {given} values for {levels} levels "
                f"(hierarchy.groups={list(self.hierarchy.groups)}); give one a level, or "
                "experts.samples_per_expert"
            )
        if self.grow.build is None and any(rule.num_samples == 0 for rule in self.experts.rules):
            raise ConfigError(
                "experts.rules: num_samples=0 leaves an expert of finetune.bundle as it is; a new "
                "one needs samples"
            )

    def _check_extractor(self) -> None:
        """Raise ConfigError for a network that takes embeddings of another length."""
        experts = self.experts
        others = [rule.backbone for rule in experts.rules]
        others += [row.backbone for row in experts.comparisons]
        for backbone in (experts.backbone, *others):
            wanted = backbone.told_dim if backbone is not None else None
            if backbone is not None and wanted not in (None, self.extractor.embed_dim):
                raise ConfigError(
                    f"{backbone.name} takes embeddings of length {wanted}, but "
                    f"extractor.embed_dim={self.extractor.embed_dim}; give its embed_dim that"
                )

    def _check_new_tree(self) -> None:
        """Raise ConfigError for too few patches, or a rule with a degradation that is not made."""
        cut = self.hierarchy
        is_cut = self.finetune.bundle is None  # a bundle's tree is there
        if is_cut and self.degradation.num_train < cut.fewest_samples:
            raise ConfigError(
                f"hierarchy.method={cut.method} with hierarchy.groups={list(cut.groups)} makes at "
                f"least {cut.fewest_groups} groups of at least {cut.smallest_group} samples, "
                f"{cut.fewest_samples} in all, but degradation.num_train is "
                f"{self.degradation.num_train}"
            )
        known = [*self.degradation.tasks, MIXED]
        for source in self.data.sources:
            known += [*source.tasks, *(() if source.tasks else REGISTRY)]
        known = list(dict.fromkeys(known))
        for rule in self.experts.rules:
            if rule.degradation is not None and rule.degradation not in known:
                raise ConfigError(
                    f"experts.rules names {rule.degradation!r}; there are {', '.join(known)}"
                )
