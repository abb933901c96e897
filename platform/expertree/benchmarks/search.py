"""Benchmark of what a search trains if trials share experts, and if poor trees stop early."""

import dataclasses
import itertools
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from expertree.degradation.table import DegradationConfig
from expertree.embedding import ExtractorConfig
from expertree.embedding.clip import ClipConfig
from expertree.embedding.recipe import ExtractorRecipe
from expertree.experts import RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.hierarchy import HierarchyConfig
from expertree.orchestration.cluster import connect
from expertree.orchestration.search.run import run_search
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.settings import ExpertsConfig
from expertree.routing import RouterConfig
from expertree.search.record import Search
from expertree.search.rungs import value_of
from expertree.search.settings import SearchConfig, SearchSettings
from expertree.storage import Storage

TABLE_8 = ((1,), (2,), (4,), (8,), (16,), (1, 8), (4, 8), (1, 4, 8), (1, 4, 8, 16))
"""The shapes of paper 000, table 8."""

_OF_EXPERTS = ("expert", "snapshot", "score", "router", "judge")
"""Stages of the store whose results depend on experts."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SearchBenchConfig:
    """The searches; their experts are as small as possible, since only their number matters."""

    shapes: tuple[tuple[int, ...], ...] = TABLE_8
    """Groups by level of each tree."""

    alphas: tuple[float, ...] = (0.0, 0.1, 1.0)
    betas: tuple[float, ...] = (0.0, 0.01, 0.1)
    """Weights of the routers' losses: each of `alphas` with each of `betas`."""

    part: tuple[int, ...] = (1, 4)
    """Groups of the tree whose experts are trained first, to measure how long one takes."""

    concurrent: int = 4
    """Trials that run at a time."""

    num_samples: int = 64
    """Training samples of each expert."""

    early_shapes: tuple[tuple[int, ...], ...] = (
        *((4,), (10,), (2,), (8,)),
        *((3,), (12,), (6,), (5,)),
    )
    """Trees that share no expert but the root's, of which poor ones are stopped early."""

    early_samples: int = 1_000
    """Training samples of each of their experts, after the root's has seen as many."""

    early_fractions: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Fractions of those samples at which the trees are compared."""

    early_reduction: float = 4.0
    """Number of trees of which one goes on to the next fraction."""


def measure_search(config: SearchBenchConfig) -> dict[str, Any]:
    """Search over shapes, then over the losses' weights too, then with poor trees stopped early.

    Each of the three searches trains its experts anew.
    """
    cluster = ClusterConfig()
    with tempfile.TemporaryDirectory(prefix="et-") as name, connect(cluster):
        folder = Path(name)
        alone = _run(config, folder, "part", {"hierarchy.groups": [config.part]})
        shapes = {"hierarchy.groups": config.shapes}
        found = {"shapes": _run(config, folder, "shapes", shapes)}
        weights = {"router.alpha": config.alphas, "router.beta": config.betas}
        found["all"] = _run(config, folder, "all", {**shapes, **weights})
        early = _stop_early(config, folder)
    each_s = alone["seconds"] / max(1, alone["trainings"])
    for own in found.values():
        own["naive_seconds"] = round(each_s * own["naive"], 1)
    return {
        "benchmark": "search",
        **found,
        "early": early,
        "note": (
            f"naive_seconds: the {alone['trainings']} experts of a tree {list(config.part)} took "
            f"{alone['seconds']} s by themselves, scaled to the number that trials without "
            "sharing train; seconds are from the first trial to the last"
        ),
    }


def _run(
    config: SearchBenchConfig, folder: Path, name: str, choices: Mapping[str, Any]
) -> dict[str, Any]:
    _forget_experts(folder)
    found = _counted(_search(folder, name, choices, _wanted(config)))
    # Minutes of training are behind this line: say it now, whatever comes after.
    sys.stderr.write(f"{name}: {found}\n")
    return found


def _stop_early(config: SearchBenchConfig, folder: Path) -> dict[str, Any]:
    """Run a search that stops poor trees, then train all in full from where they stopped.

    There are more patches and the extractor is trained, so that the trees' PSNRs differ.
    """
    _forget_experts(folder)
    common = _wanted(config)
    wanted = dataclasses.replace(
        common,
        degradation=dataclasses.replace(
            common.degradation,
            num_train=1_400,
            num_extractor=1_400,
            num_route=350,
            num_val_in=140,
            num_val_out=140,
        ),
        extractor=dataclasses.replace(
            common.extractor,
            recipe=dataclasses.replace(common.extractor.recipe, num_steps=400),
        ),
        hierarchy=HierarchyConfig(),
        experts=dataclasses.replace(
            common.experts, samples_per_expert=config.early_samples, warm_start=True
        ),
        router=RouterConfig(),
    )
    choices = {"hierarchy.groups": config.early_shapes}
    early, full = (
        _search(
            folder,
            name,
            choices,
            dataclasses.replace(
                wanted,
                search=dataclasses.replace(
                    wanted.search, fractions=fractions, reduction=config.early_reduction
                ),
            ),
        )
        for name, fractions in (("early", config.early_fractions), ("full", (1.0,)))
    )
    reached = {trial["shape"]: trial["objectives"] for trial in full["trials"]}
    values = {shape: round(value_of(own), 3) for shape, own in reached.items() if own is not None}
    best, kept = _best(full), _best(early)
    return {
        "best_in_full": best,
        "best": kept,
        "behind_db": round(values[best] - values[kept], 3),
        "cost_share": round(
            sum(expert["samples"] for expert in early["experts"])
            / sum(expert["num_samples"] for expert in full["experts"]),
            3,
        ),
        "completed": [t["shape"] for t in early["trials"] if t["status"] == "completed"],
        "psnr_in_full": values,
    }


def _best(record: Search) -> str:
    """Return the shape with the highest mean of both PSNRs."""
    (number,) = (best["trial"] for best in record["best"] if best["objective"] == "mean")
    return record["trials"][number]["shape"]


def _forget_experts(folder: Path) -> None:
    store = Storage.open(folder / "store")
    for stage in _OF_EXPERTS:
        store.sub(stage).delete()


def _search(folder: Path, name: str, choices: Mapping[str, Any], wanted: SearchConfig) -> Search:
    space = {key: {"choice": _plain(values)} for key, values in choices.items()}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"parameters": space}))
    num_trials = len(list(itertools.product(*choices.values())))
    own = dataclasses.replace(
        wanted,
        title=name,
        store=str(folder / "store"),
        output=str(folder / name),
        search_space=str(path),
        search=dataclasses.replace(wanted.search, num_trials=num_trials),
    )
    return run_search(own, folder)


def _plain(values: Any) -> list[Any]:  # noqa: ANN401 - any plain values
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _wanted(config: SearchBenchConfig) -> SearchConfig:
    """Return the settings that all trials have in common."""
    return SearchConfig(
        search=SearchSettings(searcher="grid", concurrent=config.concurrent, fractions=(1.0,)),
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
            backbone=NAFNetConfig(width=8),
            recipe=RecipeConfig(patch_px=32),
            samples_per_expert=config.num_samples,
            warm_start=False,
        ),
        router=RouterConfig(num_epochs=2),
    )


def _counted(record: Search) -> dict[str, Any]:
    """Return how much a search trained, how much without sharing, and how long it took."""
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
