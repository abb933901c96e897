"""Tiny networks that are told of the whole image, and bundles of them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expertree.embedding import stored_extractor_hash
from expertree.experts import BackboneConfig, ExpertJob, RecipeConfig
from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.instructir import InstructIRConfig
from expertree.experts.backbones.lora_ir import LoRAIRConfig
from expertree.experts.backbones.sler_ir import SLERIRConfig
from expertree.experts.weights import save_expert
from expertree.hierarchy import HierarchyConfig, build_tree, save_tree
from expertree.restorer import Restorer
from expertree.routing import Router, RouterShape, make_guide, save_guide, save_router
from expertree.storage import Storage

ONES = {"encoder": (1, 1, 1), "middle": 1, "decoder": (1, 1, 1)}
SIZES = {"width": 4, "heads": (1, 1, 2, 2), "refinement": 1, "router_hidden": 8, "router_dim": 4}
INSTRUCT = InstructIRConfig(
    width=4, encoder=(1, 1), middle=1, decoder=(1, 1), told_width=8, embed_dim=16
)
SLER = SLERIRConfig(**ONES, **SIZES, embed_dim=16, prior_width=8)
LORA = LoRAIRConfig(
    width=4,
    encoder=(1, 1),
    middle=1,
    decoder=(1, 1),
    rank=2,
    alpha=4,
    embed_dim=16,
    router_hidden=8,
    router_dim=8,
    gate_hidden=8,
)
TOLD: dict[str, BackboneConfig] = {"instructir": INSTRUCT, "sler_ir": SLER, "lora_ir": LORA}


def with_experts(
    parts: Any, folder: Path, backbone: BackboneConfig, extractor: Storage | None = None
) -> Any:
    """The parts of a bundle whose experts are all of one kind, and unlike each other."""
    experts = {}
    for node in parts.experts:
        torch.manual_seed(node)
        network = build_backbone(backbone)
        for value in network.parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=0.2)
        experts[node] = Storage.open(folder / f"expert-{node}")
        job = ExpertJob(
            key=f"e{node}",
            backbone=backbone,
            recipe=RecipeConfig(),
            num_samples=8,
            seed=node,
            extractor=(extractor or parts.extractor).uri,
        )
        save_expert(experts[node], network.state_dict(), job)
    return dataclasses.replace(parts, experts=experts)


def told_restorer(parts: Any, folder: Path, backbone: BackboneConfig) -> Restorer:
    """A restorer over a bundle in `folder / "bundle"`."""
    with_experts(parts, folder, backbone).write(Storage.open(folder / "bundle"))
    return Restorer.load(folder / "bundle")


def single(parts: Any, folder: Path) -> Any:
    """The parts of a bundle of one network, without a tree, told by the extractor of others."""
    store = Storage.open(folder / "single")
    points = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    name = stored_extractor_hash(parts.extractor)
    tree, leaves = build_tree(
        points, HierarchyConfig(groups=(1,), min_group_samples=4), extractor=name
    )
    save_tree(tree, store.sub("tree"))
    router = Router(RouterShape(embed_dim=tree.embed_dim, num_leaves=1, num_levels=1))
    save_router(router.eval(), store.sub("router"))
    save_guide(make_guide(tree, leaves, [("rain",)] * len(leaves)), store.sub("router"))
    return dataclasses.replace(
        parts,
        tree=store.sub("tree"),
        router=store.sub("router"),
        experts={0: parts.experts[0]},
    )
