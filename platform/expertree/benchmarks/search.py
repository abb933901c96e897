"""How many experts a search over shapes trains, against each trial training its own."""

import dataclasses
import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from expertree.degradation.table import DegradationConfig
from expertree.embedding import ExtractorConfig
from expertree.embedding.clip import ClipConfig
from expertree.embedding.recipe import ExtractorRecipe
from expertree.experts import BackboneConfig, RecipeConfig
from expertree.hierarchy import HierarchyConfig
from expertree.orchestration.cluster import ClusterConfig, connect
from expertree.orchestration.search_run import run_search
from expertree.orchestration.search_settings import SearchConfig, SearchSettings
from expertree.orchestration.settings import ExpertsConfig
from expertree.routing import RouterConfig
from expertree.search.record import Search
from expertree.storage import Storage

TABLE_8 = ((1,), (2,), (4,), (8,), (16,), (1, 8), (4, 8), (1, 4, 8), (1, 4, 8, 16))
"""The shapes of paper 000, table 8."""

_OF_EXPERTS = ("expert", "snapshot", "score", "router", "judge")
"""Stages of the store that hang on experts."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SearchBenchConfig:
    """What is searched; the experts are as small as can be, for it is they that are counted."""

    shapes: tuple[tuple[int, ...], ...] = TABLE_8
    """Groups by level of each tree."""

    alphas: tuple[float, ...] = (0.0, 0.1, 1.0)
    betas: tuple[float, ...] = (0.0, 0.01, 0.1)
    """Weights of the routers' losses, each with each."""

    part: tuple[int, ...] = (1, 4)
    """The tree whose experts are trained by themselves, to know what that takes."""

    concurrent: int = 4
    """Trials at a time."""

    num_samples: int = 64
    """That each expert sees."""


def measure_search(config: SearchBenchConfig) -> dict[str, Any]:
    """Search over the shapes, and then with the losses' weights too, experts trained anew."""
    cluster = ClusterConfig()
    with tempfile.TemporaryDirectory(prefix="et-") as name, connect(cluster):
        folder = Path(name)
        alone = _run(config, folder, "part", {"hierarchy.groups": [config.part]})
        shapes = {"hierarchy.groups": config.shapes}
        found = {"shapes": _run(config, folder, "shapes", shapes)}
        weights = {"router.alpha": config.alphas, "router.beta": config.betas}
        found["all"] = _run(config, folder, "all", {**shapes, **weights})
    each_s = alone["seconds"] / max(1, alone["trainings"])
    for own in found.values():
        own["naive_seconds"] = round(each_s * own["naive"], 1)
    return {
        "benchmark": "search",
        **found,
        "note": (
            f"naive_seconds: the {alone['trainings']} experts of a tree {list(config.part)} took "
            f"{alone['seconds']} s by themselves, scaled to the number that trials without "
            "sharing train; seconds are from the first trial to the last"
        ),
    }


def _run(
    config: SearchBenchConfig, folder: Path, name: str, choices: Mapping[str, Any]
) -> dict[str, Any]:
    store = Storage.open(folder / "store")
    for stage in _OF_EXPERTS:
        store.sub(stage).delete()
    space = {key: {"choice": _plain(values)} for key, values in choices.items()}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"parameters": space}))
    num_trials = len(list(itertools.product(*choices.values())))
    record = run_search(_search(config, folder, path, num_trials), folder)
    return _counted(record)


def _plain(values: Any) -> list[Any]:  # noqa: ANN401 - any plain values
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _search(config: SearchBenchConfig, folder: Path, space: Path, num_trials: int) -> SearchConfig:
    return SearchConfig(
        title=space.stem,
        store=str(folder / "store"),
        output=str(folder / space.stem),
        search_space=str(space),
        search=SearchSettings(
            searcher="grid",
            num_trials=num_trials,
            concurrent=config.concurrent,
            fractions=(1.0,),
        ),
        degradation=DegradationConfig(
            patch_px=32,
            num_train=560,
            num_extractor=280,
            num_route=140,
            num_val_in=42,
            num_val_out=42,
            num_shift=0,
        ),
        extractor=ExtractorConfig(
            view_px=32,
            clip=ClipConfig(image_tower="test_resnet"),
            recipe=ExtractorRecipe(num_steps=20, crop_px=32),
        ),
        hierarchy=HierarchyConfig(method="bisecting"),
        experts=ExpertsConfig(
            backbone=BackboneConfig(width=8),
            recipe=RecipeConfig(patch_px=32),
            samples_per_expert=config.num_samples,
            warm_start=False,
        ),
        router=RouterConfig(num_epochs=2),
    )


def _counted(record: Search) -> dict[str, Any]:
    """What a search trained, what its trials would have, and how long it took."""
    cost, trials = record["cost"], record["trials"]
    begin = min(trial["begin_s"] for trial in trials)
    end = max(trial["end_s"] or trial["begin_s"] for trial in trials)
    return {
        "trials": len(trials),
        "completed": sum(trial["status"] == "completed" for trial in trials),
        "trainings": cost["shared_trainings"],
        "naive": cost["naive_trainings"],
        "ratio": round(cost["naive_trainings"] / max(1, cost["shared_trainings"]), 2),
        "duplicates": cost["duplicates"],
        "seconds": round(end - begin, 1),
    }
