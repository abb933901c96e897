"""The stage that evaluates a build, and the record that its report is rendered from."""

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
from expertree.degradation.captions import SEPARATOR, caption_of_kinds
from expertree.degradation.parameters import DISTRIBUTIONS
from expertree.degradation.table import CLEAN_SET
from expertree.embedding import load_extractor
from expertree.embedding.picture import draw, separations
from expertree.evaluation import (
    AS_IS,
    Evaluated,
    Scores,
    choices,
    clean_images,
    gains_over_parent,
    routing,
    shift,
    summary,
    table,
)
from expertree.experts.backbones import describe_backbone
from expertree.hierarchy import Labels, assign, compositions, silhouette_rows, silhouettes
from expertree.pipeline.build import Built
from expertree.pipeline.examples import make_examples
from expertree.pipeline.experts import ExpertPlan, own_experts
from expertree.pipeline.finetune import finetune_record
from expertree.pipeline.grow import growth_record
from expertree.pipeline.networks import label_of
from expertree.pipeline.provenance import source_commit
from expertree.pipeline.routers import choose_stored, leaves_of_training
from expertree.pipeline.runner import OnDone
from expertree.pipeline.score import CLASSICAL, INPUTS, MEASURES
from expertree.pipeline.score_columns import read_scores
from expertree.pipeline.settings import BuildConfig, ExpertsConfig
from expertree.pipeline.stages import StageTime, Workbench, key_of, sibling
from expertree.pipeline.tables import read_embeddings, read_labels, read_names
from expertree.pipeline.tree import read_rows
from expertree.routing import Route, Router
from expertree.storage import Storage
from expertree.uris import public

CHOOSING = ("finest_level", "routed")
"""Rows whose cost includes the extractor and the routers."""

VERSIONED = ("expertree", "torch", "ray", "open_clip_torch", "spandrel", "pyarrow", "numpy")


def evaluate(config: BuildConfig, bench: Workbench, built: Built) -> Storage:
    """Evaluate in and out of distribution; store `evaluation.json` and the example pictures."""

    def make(result: Storage, _: OnDone) -> None:
        record = _evaluate(config, built)
        record["examples"], images = make_examples(config, built)
        for name, png in images.items():
            result.write_bytes(f"images/{name}", png)
        result.write_json("evaluation.json", record)

    return bench.run("evaluate", _spec(config, built), make)


def _spec(config: BuildConfig, built: Built) -> dict[str, Any]:
    """Return everything that an evaluation depends on."""
    spec: dict[str, Any] = {
        "bundle": key_of(built.bundle),
        "scores": sorted(key_of(column) for column in built.scores.values()),
        "num_examples": config.num_examples,
        "seed": config.seed,
    }
    if not _are_known_by_scores(config, built):
        spec["comparisons"] = [[name, plan.key] for name, plan in built.comparisons.items()]
    if any(source.pairs_of("val") for source in built.material.sources):
        spec["pairs"] = "labelled by their kinds"
    return spec


def _are_known_by_scores(config: BuildConfig, built: Built) -> bool:
    """Return whether scores alone say which comparison has which name: the usual ones in order.

    Fewer than all of those are known only where each has scores of its own.
    """
    own, usual = config.experts.comparisons, ExpertsConfig().comparisons
    if own != usual[: len(own)] or [one.name for one in own] != list(built.comparisons):
        return False
    keys = [plan.key for plan in built.experts]
    is_apart = len(set(keys)) == len(keys) and len(built.hierarchy.tree.experts()) > 1
    return own == usual or is_apart


def run_record(
    config: BuildConfig,
    built: Built,
    evaluation: Storage,
    *,
    times: Sequence[StageTime],
    wall_s: float,
    timeline: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the record that the report renders, and its pictures by name.

    The record has no keys in its URIs; `FinishedBuild` says who reads them again and how.
    """
    logs = {plan.key: plan.result.read_json("log.json") for plan in built.experts}
    nodes = {plan.key: node for node, plan in own_experts(built.experts).items()}
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
        "stored": _stored(built, evaluation),
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
        "experts": [_expert_record(plan, logs[plan.key], nodes) for plan in built.experts],
        "timeline": list(timeline),
        "stages": [{"name": t.name, "seconds": t.seconds, "cached": t.cached} for t in times],
        "skipped_photographs": [list(pair) for pair in built.material.skipped],
    }
    if built.past is not None and built.hierarchy.growth is not None:
        record["grown"] = growth_record(config, built.past, built.hierarchy.growth)
    if config.finetune.bundle is not None:
        record["finetuned"] = finetune_record(config, built.experts)
    return public(record), images


def _stored(built: Built, evaluation: Storage) -> dict[str, str]:
    """Return where each result of a build is, by its stage and patch set."""
    return {
        **{f"degrade/{name}": table.uri for name, table in built.tables.items()},
        "extractor": built.extractor.uri,
        **{f"embed/{name}": result.uri for name, result in built.embeddings.items()},
        **{
            f"measures/{name}": column.uri
            for (key, name), column in built.scores.items()
            if key == MEASURES and name in built.tables
        },
        "tree": built.hierarchy.result.uri,
        "shard": built.shards.uri,
        "router": built.router_result.uri,
        "evaluate": evaluation.uri,
        "bundle": built.bundle.uri,
    }


def _expert_record(
    plan: ExpertPlan, log: Mapping[str, Any], nodes: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "index": plan.node,
        "comparison": plan.comparison,
        "label": plan.label,
        "key": plan.key,
        "curve": log["curve"],
        "seconds": log["seconds"],
        "num_samples": plan.job.num_samples,
        "backbone": plan.job.backbone.name,
        "start": plan.start,
        "notes": log["notes"],
        "parent": nodes.get(plan.parent) if plan.parent is not None else None,
    }


def _evaluate(config: BuildConfig, built: Built) -> dict[str, Any]:
    tasks = built.material.kinds(config.degradation.tasks)
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
    clean = {}
    if CLEAN_SET in built.tables:
        clean["clean"] = clean_images(built.hierarchy.tree, _evaluated(built, router, CLEAN_SET))
    return {
        "summary": headline,
        "tables": tables,
        "routing": sent,
        "shift": shift(built.hierarchy.tree, points),
        "tree": _tree_record(built, sets["in"]),
        "embeddings": _embedding_record(built, config.seed),
        "classical": dict(built.classical),
        **clean,
    }


def _evaluated(built: Built, router: Router, split: str) -> Evaluated:
    patches = read_labels(built.tables[split])

    def scores(key: str) -> Scores:
        return read_scores(built.scores[key, split])

    return Evaluated(
        tasks=patches,
        inputs=scores(INPUTS),
        comparisons={name: scores(plan.key) for name, plan in built.comparisons.items()},
        experts={node: scores(plan.key) for node, plan in built.serving.items()},
        routes=_routes(built, router, split),
        classical=scores(CLASSICAL) if (CLASSICAL, split) in built.scores else None,
    )


def _routes(built: Built, router: Router, split: str) -> list[Route]:
    measures = built.scores.get((MEASURES, split))
    return choose_stored(router, built.hierarchy.tree, built.embeddings[split], measures)


def _tree_record(built: Built, validation: Evaluated) -> dict[str, Any]:
    tree = built.hierarchy.tree
    val = read_embeddings(built.embeddings["val_in"])[1]
    leaves = leaves_of_training(built.hierarchy, built.training)
    scored = silhouette_rows(len(leaves))
    sample = read_rows([found for _, found in built.training], scored)
    labels = Labels.join([read_labels(table) for table, _ in built.training]).map(label_of)
    own = {
        node: read_scores(built.scores[plan.key, "val_in"])
        for node, plan in own_experts(built.experts).items()
    }
    made_of = compositions(tree, leaves, labels)
    gains = gains_over_parent(tree, assign(tree, val), own)
    sent = validation.nodes[validation.nodes != AS_IS]
    routed = np.bincount(sent, minlength=len(tree.nodes))
    quality = silhouettes(tree, sample, leaves[scored])
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
    """Return the report's picture of the embeddings: validation patches on a plane."""
    splits = [f"val_{name}" for name in DISTRIBUTIONS]
    vectors = np.concatenate([read_embeddings(built.embeddings[split])[1] for split in splits])
    named = [
        (tasks, names, place)
        for place, split in zip(DISTRIBUTIONS, splits, strict=True)
        for tasks, names in zip(
            read_labels(built.tables[split]), read_names(built.tables[split]), strict=True
        )
    ]
    labels = [label_of(tasks) for tasks, _, _ in named]
    picture = draw(vectors, seed=seed)
    rows = picture.rows.tolist()
    return {
        "pca": np.round(picture.pca, 3).tolist(),
        "tsne": np.round(picture.tsne, 3).tolist(),
        "degradations": [labels[row] for row in rows],
        "captions": [_caption(*named[row][:2]) for row in rows],
        "distributions": [named[row][2] for row in rows],
        "separation": [dataclasses.asdict(one) for one in separations(vectors, labels, seed=seed)],
    }


def _caption(tasks: Sequence[str], names: Sequence[str]) -> str:
    """Return the degrees of a patch, or the kinds of one whose degrees nobody knows."""
    return SEPARATOR.join(names[len(tasks) :]) or caption_of_kinds(tasks)


def _given(built: Built, validation: Evaluated) -> dict[str, dict[str, Any]]:
    """Return the training samples and the cost of an image for each row of a table.

    Where nodes have different networks, the cost is the mean over the images of the set, and the
    samples are those of the longest path. An image that is left as it is costs only the choice.
    """
    networks = {plan.role: describe_backbone(plan.job.backbone) for plan in built.experts}
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

    def cost(roles: Sequence[int | str | None], extra: Mapping[str, int]) -> dict[str, int]:
        """Return the most samples and the mean costs over images; None runs no network."""
        return {"num_samples": max((seen[r] for r in roles if r is not None), default=0)} | {
            name: more
            + round(sum(getattr(networks[r], name) for r in roles if r is not None) / len(roles))
            for name, more in extra.items()
        }

    nothing = dict.fromkeys(choosing, 0)
    given = {name: cost([name], nothing) for name in built.comparisons}
    given["random_expert"] = cost(tree.experts(), nothing)
    for method, nodes in choices(tree, validation).items():
        experts = [None if node == AS_IS else tree.expert_of(node) for node in nodes.tolist()]
        given[method] = cost(experts, choosing if method in CHOOSING else nothing)
    return given


def _samples_seen(plans: Sequence[ExpertPlan]) -> dict[int | str, int]:
    """Return the samples behind each network's weights, those that it started from included."""
    seen: dict[str, int] = {}
    for plan in plans:
        before = 0
        if plan.parent is not None:
            before = seen.get(plan.parent) or _samples_of(plan.result, plan.parent)
        seen[plan.key] = before + plan.job.num_samples
    return {plan.role: seen[plan.key] for plan in plans}


def _samples_of(result: Storage, key: str) -> int:
    """Return the samples of an expert that the tree no longer has: a bundle's, which went on."""
    return int(sibling(result, "expert", key).done()["spec"]["num_samples"])
