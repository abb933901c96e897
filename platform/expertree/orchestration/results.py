"""What a build came to: the evaluation, stored like any stage, and the record for the report."""

import dataclasses
import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from expertree.config import to_dict
from expertree.degradation.captions import SEPARATOR, caption
from expertree.degradation.parameters import DISTRIBUTIONS
from expertree.degradation.photographs import load_photo
from expertree.degradation.recipe import Kind, draw_recipe, mixable
from expertree.degradation.synthesis import degrade
from expertree.embedding import load_extractor
from expertree.embedding.picture import draw, separations
from expertree.evaluation import (
    Evaluated,
    Scores,
    choices,
    gains_over_parent,
    routing,
    shift,
    summary,
    table,
)
from expertree.experts import load_expert
from expertree.experts.backbones import describe_backbone
from expertree.hierarchy import assign, compositions, silhouettes
from expertree.images.arrays import ImageU8
from expertree.images.io import encode_png, to_float, to_u8
from expertree.images.metrics import psnr_rgb
from expertree.orchestration.build import Built, leaves_of_training
from expertree.orchestration.expert_networks import label_of
from expertree.orchestration.expert_stages import ExpertPlan
from expertree.orchestration.grow_stages import growth_record
from expertree.orchestration.pipelines import OnDone
from expertree.orchestration.provenance import source_commit
from expertree.orchestration.score_stage import INPUTS
from expertree.orchestration.scores import read_scores
from expertree.orchestration.settings import BuildConfig
from expertree.orchestration.stages import StageTime, Workbench, key_of
from expertree.orchestration.tables import read_embeddings, read_labels, read_names
from expertree.restorer import Restorer
from expertree.routing import Route, Router, decide
from expertree.storage import Storage

EXAMPLE_PX = 256
CHOOSING = ("finest level", "routed")
"""Rows whose cost includes the extractor and the routers."""

VERSIONED = ("expertree", "torch", "ray", "open_clip_torch", "spandrel", "pyarrow", "numpy")


def evaluate(config: BuildConfig, bench: Workbench, built: Built) -> Storage:
    """Evaluate in and out of distribution; `evaluation.json` and the pictures beside it."""
    spec = {
        "bundle": key_of(built.bundle),
        "scores": sorted(key_of(column) for column in built.scores.values()),
        "num_examples": config.num_examples,
        "seed": config.seed,
    }

    def make(result: Storage, _: OnDone) -> None:
        record = _evaluate(config, built)
        record["examples"], images = _examples(config, built)
        for name, png in images.items():
            result.write_bytes(f"images/{name}", png)
        result.write_json("evaluation.json", record)

    return bench.run("evaluate", spec, make)


def run_record(
    config: BuildConfig,
    built: Built,
    evaluation: Storage,
    *,
    times: Sequence[StageTime],
    wall_s: float,
    timeline: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record that the report renders, and its pictures."""
    logs = {plan.key: plan.result.read_json("log.json") for plan in built.experts}
    nodes = {plan.key: plan.node for plan in built.experts if plan.node is not None}
    images = {
        name.removeprefix("images/"): evaluation.read_bytes(name)
        for name in evaluation.list_files(".png")
    }
    training_s = sum(float(log["seconds"]) for log in logs.values())
    record = {
        "title": config.title,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": source_commit(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED}
        | {"python": platform.python_version()},
        "config": to_dict(config),
        "stored": {
            **{f"degrade/{name}": table.uri for name, table in built.tables.items()},
            "extractor": built.extractor.uri,
            **{f"embed/{name}": result.uri for name, result in built.embeddings.items()},
            "tree": built.hierarchy.result.uri,
            "shard": built.shards.uri,
            "router": built.router_result.uri,
            "evaluate": evaluation.uri,
            "bundle": built.bundle.uri,
        },
        "machine": {
            "cores": os.cpu_count(),
            "system": platform.system(),
            "architecture": platform.machine(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "cost": {
            "wall_s": round(wall_s, 1),
            "expert_training_s": round(training_s, 1),
            "num_experts": len(built.hierarchy.tree.experts()),
        },
        **evaluation.read_json("evaluation.json"),
        "experts": [
            {
                "index": plan.node,
                "label": plan.label,
                "key": plan.key,
                "curve": logs[plan.key]["curve"],
                "seconds": logs[plan.key]["seconds"],
                "num_samples": plan.job.num_samples,
                "backbone": plan.job.backbone.name,
                "start": plan.start,
                "notes": logs[plan.key]["notes"],
                "parent": nodes[plan.parent] if plan.parent is not None else None,
            }
            for plan in built.experts
        ],
        "timeline": list(timeline),
        "stages": [{"name": t.name, "seconds": t.seconds, "cached": t.cached} for t in times],
        "skipped_photographs": [list(pair) for pair in built.material.skipped],
    }
    if built.past is not None and built.hierarchy.growth is not None:
        record["grown"] = growth_record(config, built.past, built.hierarchy.growth)
    return record, images


def _evaluate(config: BuildConfig, built: Built) -> dict[str, Any]:
    tasks = config.degradation.tasks
    tables: list[dict[str, Any]] = []
    sent: dict[str, Any] = {}
    router = built.router
    sets = {name: _evaluated(built, router, f"val_{name}") for name in DISTRIBUTIONS}
    given = _given(built, sets["in"])
    for name, evaluated in sets.items():
        for kind in ("single", "mixed"):
            made = table(built.hierarchy.tree, evaluated, kind=kind, task_order=tasks, given=given)
            if made["columns"]:
                tables.append({"distribution": name, "kind": kind, **made})
        sent[name] = routing(built.hierarchy.tree, evaluated, task_order=tasks)
    points = {
        patch_set.severity: _evaluated(built, router, name)
        for name, patch_set in config.degradation.shift_sets().items()
        if isinstance(patch_set.severity, float)
    }
    headline = summary(tables)
    headline["given"] = given
    return {
        "summary": headline,
        "tables": tables,
        "routing": sent,
        "shift": shift(built.hierarchy.tree, points),
        "tree": _tree_record(built, sets["in"]),
        "embeddings": _embedding_record(built, config.seed),
    }


def _evaluated(built: Built, router: Router, split: str) -> Evaluated:
    patches = read_labels(built.tables[split])
    (alone,) = (plan for plan in built.experts if plan.node is None)

    def scores(key: str) -> Scores:
        return read_scores(built.scores[key, split])

    return Evaluated(
        tasks=patches,
        degraded=scores(INPUTS),
        root=scores(alone.key),
        experts={node: scores(plan.key) for node, plan in built.serving.items()},
        routes=_routes(built, router, split),
    )


def _routes(built: Built, router: Router, split: str) -> list[Route]:
    _, vectors = read_embeddings(built.embeddings[split])
    with torch.inference_mode():
        output = router(torch.from_numpy(built.hierarchy.tree.standardise(vectors)))
    return decide(output, built.hierarchy.tree)


def _tree_record(built: Built, validation: Evaluated) -> dict[str, Any]:
    tree = built.hierarchy.tree
    val = read_embeddings(built.embeddings["val_in"])[1]
    train = np.concatenate([read_embeddings(found)[1] for _, found in built.training])
    leaves = leaves_of_training(built.hierarchy, built.training)
    labels = [label_of(tasks) for table, _ in built.training for tasks in read_labels(table)]
    own = {
        plan.node: read_scores(built.scores[plan.key, "val_in"])
        for plan in built.experts
        if plan.node is not None
    }
    made_of = compositions(tree, leaves, labels)
    gains = gains_over_parent(tree, assign(tree, val), own)
    routed = np.bincount([r.node for r in validation.routes], minlength=len(tree.nodes))
    quality = silhouettes(tree, train, leaves)
    return {
        "groups": list(tree.groups),
        "levels": [
            {"level": level, "silhouette": value, "num_groups": tree.groups[level]}
            for level, value in enumerate(quality)
        ],
        "nodes": [
            {
                "index": node.index,
                "level": node.level,
                "parent": node.parent,
                "expert": built.serving[tree.expert_of(node.index)].node,
                "backbone": built.serving[tree.expert_of(node.index)].network,
                "num_samples": node.num_samples,
                "dominant": [list(share) for share in made_of[node.index].shares],
                "gain_over_parent_db": gains.get(node.index),
                "share_routed": float(routed[node.index] / len(validation.routes)),
            }
            for node in tree.nodes
        ],
    }


def _embedding_record(built: Built, seed: int) -> dict[str, Any]:
    """Validation patches as the extractor sees them; the picture's part in the report."""
    splits = [f"val_{name}" for name in DISTRIBUTIONS]
    vectors = np.concatenate([read_embeddings(built.embeddings[split])[1] for split in splits])
    named = [
        (names, place)
        for place, split in zip(DISTRIBUTIONS, splits, strict=True)
        for names in read_names(built.tables[split])
    ]
    # A single patch has two names, its degradation and its degree.
    tasks = [names[0] if len(names) == 2 else "mixed" for names, _ in named]
    picture = draw(vectors, seed=seed)
    rows = picture.rows.tolist()
    return {
        "pca": np.round(picture.pca, 3).tolist(),
        "tsne": np.round(picture.tsne, 3).tolist(),
        "degradations": [tasks[row] for row in rows],
        "captions": [SEPARATOR.join(_degrees(named[row][0])) for row in rows],
        "distributions": [named[row][1] for row in rows],
        "separation": [dataclasses.asdict(one) for one in separations(vectors, tasks, seed=seed)],
    }


def _degrees(names: Sequence[str]) -> Sequence[str]:
    return names[len(names) // 2 :]


def _given(built: Built, validation: Evaluated) -> dict[str, dict[str, Any]]:
    """What each row of a table was given: samples seen in training, and the cost of a picture.

    Where nodes have different networks, the cost is the mean over the pictures of the set, and
    the samples are those of the longest path.
    """
    networks = {plan.node: describe_backbone(plan.job.backbone) for plan in built.experts}
    extractor = load_extractor(built.extractor).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        extractor.embed(torch.zeros(1, 3, 512, 512))
    choosing = {
        "num_parameters": sum(
            p.numel() for p in (*extractor.parameters(), *built.router.parameters())
        ),
        "multiply_adds_512": counter.get_total_flops() // 2,
    }
    tree, seen = built.hierarchy.tree, _samples_seen(built.experts)
    given: dict[str, dict[str, Any]] = {
        "root": {
            "num_samples": seen[None],
            **{name: getattr(networks[None], name) for name in choosing},
        }
    }
    for method, nodes in choices(tree, validation).items():
        experts = [tree.expert_of(int(node)) for node in nodes]
        extra = choosing if method in CHOOSING else dict.fromkeys(choosing, 0)
        given[method] = {"num_samples": max(seen[expert] for expert in experts)} | {
            name: round(sum(getattr(networks[e], name) for e in experts) / len(experts)) + more
            for name, more in extra.items()
        }
    return given


def _samples_seen(plans: Sequence[ExpertPlan]) -> dict[int | None, int]:
    """Samples that went into each expert's weights, those of what it started from included."""
    seen: dict[str, int] = {}
    for plan in plans:
        before = seen[plan.parent] if plan.parent is not None else 0
        seen[plan.key] = before + plan.job.num_samples
    return {plan.node: seen[plan.key] for plan in plans}


def _examples(config: BuildConfig, built: Built) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Whole crops of validation photographs, degraded and restored by the bundle itself."""
    restorer = Restorer.load(built.bundle.uri)
    alone = next(plan.result for plan in built.experts if plan.node is None)
    root = load_expert(alone).eval()
    tasks = config.degradation.tasks
    wanted: list[tuple[Kind, tuple[str, ...]]] = [("single", (task,)) for task in tasks]
    if config.degradation.mixed_fraction > 0:
        wanted.append(("mixed", mixable(tasks)))
    photos = [p for p in built.material.photos if built.material.splits[p.name] == "val"]
    photos.sort(key=lambda photo: photo.sha256)
    records: list[dict[str, Any]] = []
    images: dict[str, bytes] = {}
    for distribution in DISTRIBUTIONS:
        for turn, (kind, allowed) in enumerate(wanted * config.num_examples):
            photo = photos[(turn + len(records)) % len(photos)]
            rng = np.random.default_rng([config.seed, turn, len(records)])
            clean = _centre(load_photo(photo))
            recipe = draw_recipe(rng, tasks=allowed, kind=kind, severity=distribution)
            spoiled = degrade(clean, recipe)
            restored = restorer.restore(spoiled)
            with torch.inference_mode():
                single = to_u8(root(to_float(spoiled)[None])[0])
            name = f"{distribution}-{turn:02d}-{'-'.join(recipe.tasks)}"
            shown = {
                "degraded": spoiled,
                "root": single,
                "routed": restored.image,
                "clean": clean,
            }
            images |= {f"{name}-{k}.png": encode_png(v, level=9) for k, v in shown.items()}
            records.append(
                {
                    "id": f"{photo.name} ({name})",
                    "task": " + ".join(recipe.tasks),
                    "caption": caption(recipe),
                    "distribution": distribution,
                    **{k: f"{name}-{k}.png" for k in shown},
                    "psnr": {k: psnr_rgb(v, clean) for k, v in shown.items() if k != "clean"},
                    "route": _route_record(restored.route),
                }
            )
    return records, images


def _centre(image_u8: ImageU8) -> ImageU8:
    height, width = image_u8.shape[:2]
    top, left = max(0, (height - EXAMPLE_PX) // 2), max(0, (width - EXAMPLE_PX) // 2)
    return np.ascontiguousarray(image_u8[top : top + EXAMPLE_PX, left : left + EXAMPLE_PX])


def _route_record(route: Route) -> dict[str, Any]:
    return {
        "level": route.level,
        "leaf": route.leaf,
        "node": route.node,
        "confidence": route.confidence,
        "level_probabilities": list(route.level_probabilities),
        "leaf_probabilities": list(route.leaf_probabilities),
    }
