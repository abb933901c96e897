"""Bundles with fresh weights, which take the same time as trained ones."""

import numpy as np
import torch
from torch import Tensor

from expertree.embedding import (
    ExtractorConfig,
    build_extractor,
    save_extractor,
    stored_extractor_hash,
)
from expertree.experts import AdapterConfig, BackboneConfig, ExpertJob, RecipeConfig
from expertree.experts.adapter import adapter_shapes
from expertree.experts.backbones import build_backbone
from expertree.experts.weights import save_expert
from expertree.hierarchy import ROOT, HierarchyConfig, build_tree, save_tree
from expertree.restorer import write_bundle
from expertree.routing import Router, RouterShape, make_guide, save_guide, save_router
from expertree.storage import Storage


def fresh_bundle(
    folder: Storage,
    backbone: BackboneConfig,
    adapter: AdapterConfig | None = None,
    *,
    seed: int | None = None,
) -> Storage:
    """Write a bundle of untrained networks whose tree has the default shape.

    Args:
        folder: Directory for the parts and the bundle.
        backbone: The experts' network.
        adapter: The experts' adapters on the root's network; None for whole networks.
        seed: Seed of weights that differ between whole networks, so that each gives other images
            and none is the identity; None for one network many times.

    Returns:
        The bundle's directory.
    """
    torch.manual_seed(0)
    extractor = ExtractorConfig()
    save_extractor(build_extractor(extractor), folder.sub("extractor"))
    points = np.random.default_rng(0).normal(size=(512, extractor.embed_dim)).astype(np.float32)
    name = stored_extractor_hash(folder.sub("extractor"))
    tree, leaves = build_tree(points, HierarchyConfig(), extractor=name)
    save_tree(tree, folder.sub("tree"))
    shape = RouterShape(
        embed_dim=tree.embed_dim, num_leaves=tree.num_leaves, num_levels=tree.num_levels
    )
    save_router(Router(shape), folder.sub("router"))
    save_guide(make_guide(tree, leaves, [("noise",)] * len(leaves)), folder.sub("router"))
    root = folder.sub("experts", str(ROOT))
    save_expert(root, build_backbone(backbone).state_dict(), _job(backbone))
    experts = dict.fromkeys(tree.experts(), root)
    if seed is not None and adapter is None:
        for node in tree.experts():
            experts[node] = folder.sub("experts", str(node))
            save_expert(experts[node], _unlike(backbone, seed=1000 * seed + node), _job(backbone))
    if adapter is not None:
        for node in experts.keys() - {ROOT}:
            experts[node] = folder.sub("experts", str(node))
            shapes = adapter_shapes(backbone, adapter).items()
            tensors = {name: 0.01 * torch.randn(shape) for name, shape in shapes}
            save_expert(experts[node], tensors, _job(backbone, adapter, root))
    write_bundle(
        folder.sub("bundle"),
        extractor=folder.sub("extractor"),
        tree=folder.sub("tree"),
        router=folder.sub("router"),
        experts=experts,
    )
    return folder.sub("bundle")


def _unlike(backbone: BackboneConfig, *, seed: int) -> dict[str, Tensor]:
    """Return weights with noise, so that none is zero as scales of residuals are at first."""
    generator = torch.Generator().manual_seed(seed)
    weights = build_backbone(backbone).state_dict()
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in weights.items()
    }


def _job(
    backbone: BackboneConfig, adapter: AdapterConfig | None = None, root: Storage | None = None
) -> ExpertJob:
    return ExpertJob(
        key="fresh",
        backbone=backbone,
        recipe=RecipeConfig(),
        num_samples=1,
        seed=0,
        init=root.uri if root is not None else None,
        adapter=adapter,
    )
