"""The list of benchmarks, and the configuration of the job that runs one."""

import dataclasses
from collections.abc import Callable
from typing import Any

from expertree.benchmarks.cluster import ClusteringConfig, measure_clustering
from expertree.benchmarks.degrade import DegradeConfig, measure_degradation
from expertree.benchmarks.engine import EngineConfig, measure_engines
from expertree.benchmarks.load import LoadConfig, measure_load
from expertree.benchmarks.overhead import OverheadConfig, measure_overhead
from expertree.benchmarks.recipe import RecipeBenchConfig, measure_recipe
from expertree.benchmarks.scale import ScaleConfig, measure_scale
from expertree.benchmarks.search import SearchBenchConfig, measure_search
from expertree.benchmarks.serve import ServeBenchConfig, measure_serving
from expertree.benchmarks.shard import ShardConfig, measure_shards
from expertree.benchmarks.soak import SoakConfig, measure_soak
from expertree.benchmarks.switch import SwitchConfig, measure_switch
from expertree.benchmarks.train import TrainConfig, measure_training
from expertree.benchmarks.tree import TreeConfig, measure_tree
from expertree.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """The benchmark to run, and a section of settings for each one."""

    bench: str = "overhead"
    cluster: ClusteringConfig = ClusteringConfig()
    degrade: DegradeConfig = DegradeConfig()
    engine: EngineConfig = EngineConfig()
    load: LoadConfig = LoadConfig()
    overhead: OverheadConfig = OverheadConfig()
    recipe: RecipeBenchConfig = RecipeBenchConfig()
    scale: ScaleConfig = ScaleConfig()
    search: SearchBenchConfig = SearchBenchConfig()
    serve: ServeBenchConfig = ServeBenchConfig()
    shard: ShardConfig = ShardConfig()
    soak: SoakConfig = SoakConfig()
    switch: SwitchConfig = SwitchConfig()
    train: TrainConfig = TrainConfig()
    tree: TreeConfig = TreeConfig()

    def __post_init__(self) -> None:
        """Raise ConfigError unless the benchmark exists."""
        if self.bench not in BENCHMARKS:
            raise ConfigError(f"bench='{self.bench}' does not exist; there are {list(BENCHMARKS)}")


BENCHMARKS: dict[str, Callable[[BenchConfig], dict[str, Any]]] = {
    "cluster": lambda config: measure_clustering(config.cluster),
    "degrade": lambda config: measure_degradation(config.degrade),
    "engine": lambda config: measure_engines(config.engine),
    "load": lambda config: measure_load(config.load),
    "overhead": lambda config: measure_overhead(config.overhead),
    "recipe": lambda config: measure_recipe(config.recipe),
    "scale": lambda config: measure_scale(config.scale),
    "search": lambda config: measure_search(config.search),
    "serve": lambda config: measure_serving(config.serve),
    "shard": lambda config: measure_shards(config.shard),
    "soak": lambda config: measure_soak(config.soak),
    "switch": lambda config: measure_switch(config.switch),
    "train": lambda config: measure_training(config.train),
    "tree": lambda config: measure_tree(config.tree),
}
