"""A small bundle from real parts with random weights, whose routes depend on the image."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from expertree.embedding import (
    ClipConfig,
    ExtractorConfig,
    build_extractor,
    extractor_hash,
    save_extractor,
)
from expertree.experts import AdapterConfig, ExpertJob, RecipeConfig
from expertree.experts.adapter import adapter_shapes
from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.weights import save_expert
from expertree.hierarchy import HierarchyConfig, Tree, build_tree, save_tree
from expertree.restorer import Restorer, open_bundle, write_bundle
from expertree.routing import (
    Router,
    RouterShape,
    make_guide,
    measure,
    points_of,
    save_guide,
    save_router,
)
from expertree.storage import Storage
from told import TOLD, told_restorer

EMBED_DIM = 16
NAMES = ("haze", "noise", "rain")
BACKBONE = NAFNetConfig(width=4, encoder=(1, 1), decoder=(1, 1))
ADAPTER = AdapterConfig(rank=2, train_norms=True)


@dataclasses.dataclass(frozen=True)
class Parts:
    """Results as the build makes them."""

    extractor: Storage
    tree: Storage
    router: Storage
    experts: dict[int, Storage]

    def write(self, directory: Storage) -> None:
        write_bundle(
            directory,
            extractor=self.extractor,
            tree=self.tree,
            router=self.router,
            experts=self.experts,
        )


def make_expert(seed: int, directory: Storage) -> None:
    """An expert that is not the identity, and unlike the others."""
    generator = torch.Generator().manual_seed(seed)
    weights = build_backbone(BACKBONE).state_dict()
    for name, value in weights.items():
        if name.endswith(("beta", "gamma")):
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    job = ExpertJob(
        key=f"expert-{seed}", backbone=BACKBONE, recipe=RecipeConfig(), num_samples=8, seed=seed
    )
    save_expert(directory, weights, job)


def make_adapter(seed: int, directory: Storage, root: Storage) -> None:
    """An expert that is an adapter, unlike the others."""
    generator = torch.Generator().manual_seed(seed)
    shapes = adapter_shapes(BACKBONE, ADAPTER).items()
    tensors = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes}
    job = ExpertJob(
        key=f"expert-{seed}",
        backbone=BACKBONE,
        recipe=RecipeConfig(),
        num_samples=8,
        seed=seed,
        init=root.uri,
        adapter=ADAPTER,
    )
    save_expert(directory, tensors, job)


def make_router(tree: Tree, embeddings: np.ndarray) -> Router:
    """Random gates behind heads whose statistics are those of the embeddings."""
    router = Router(
        RouterShape(
            embed_dim=tree.embed_dim, num_leaves=tree.num_leaves, num_levels=tree.num_levels
        )
    )
    for gate in (router.leaf_gate, router.level_gate):
        nn.init.normal_(gate.weight, std=2.0)
    router.train()
    for _ in range(50):
        router(torch.from_numpy(tree.standardise(embeddings)))
    return router.eval()


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    store = Storage.open(tmp_path_factory.mktemp("store"))
    torch.manual_seed(0)
    # The smallest tower: every bundle that a test opens loads it.
    clip = ClipConfig(image_tower="test_resnet")
    extractor = build_extractor(ExtractorConfig(clip=clip, embed_dim=EMBED_DIM, view_px=64))
    save_extractor(extractor, store.sub("extractor"))
    # Images of many contrasts and brightnesses, so that there is something to tell apart.
    images = torch.rand(60, 3, 64, 64) * torch.rand(60, 3, 1, 1) + torch.rand(60, 1, 1, 1)
    embeddings = extractor.embed(images.clamp(0, 1)).numpy()
    config = HierarchyConfig(groups=(1, 2, 3), min_group_samples=4)
    tree, leaves = build_tree(embeddings, config, extractor=extractor_hash(extractor))
    save_tree(tree, store.sub("tree"))
    save_router(make_router(tree, embeddings), store.sub("router"))
    names = [(NAMES[leaf],) for leaf in leaves]
    save_guide(make_guide(tree, leaves, names), store.sub("router"))
    for node in tree.experts():
        make_expert(node, store.sub("experts", str(node)))
    return Parts(
        extractor=store.sub("extractor"),
        tree=store.sub("tree"),
        router=store.sub("router"),
        experts={node: store.sub("experts", str(node)) for node in tree.experts()},
    )


@pytest.fixture(scope="session")
def bundle_path(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tests only read."""
    path = tmp_path_factory.mktemp("bundle")
    parts.write(Storage.open(path))
    return path


@pytest.fixture(scope="session")
def careful_bundle_path(
    parts: Parts, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same experts behind routers that leave about every second image as it is.

    They read measures beside embeddings.
    """
    bundle, store = (
        open_bundle(Storage.open(bundle_path)),
        Storage.open(tmp_path_factory.mktemp("r")),
    )
    tree = bundle.tree
    torch.manual_seed(1)
    scales, offsets = 0.1 + 0.6 * torch.rand(80, 3, 1, 1), 0.3 * torch.rand(80, 1, 1, 1)
    images = torch.rand(80, 3, 64, 64) * scales + offsets  # like those of `two_kinds`
    measures = measure(images, view="spread", side_px=64)
    points = points_of(tree, bundle.extractor.embed(images).numpy(), measures.numpy())
    router = Router(
        RouterShape(
            embed_dim=tree.embed_dim,
            num_leaves=tree.num_leaves,
            num_levels=tree.num_levels,
            num_costs=len(tree.nodes),
            has_as_is=True,
            num_measures=measures.shape[1],
        ),
        as_is_margin_db=0.1,
    )
    router.measures_mean.copy_(measures.mean(dim=0))
    router.measures_std.copy_(measures.std(dim=0) + 1e-3)
    for _ in range(50):
        router(points)
    router.eval()
    with torch.no_grad():
        output = router(points)
        gains = output.as_is_cost - output.costs.min(dim=1).values
        router.cost_heads[0][-1].bias[-1] -= gains.median() - router.as_is_margin_db
    save_router(router, store)
    save_guide(bundle.guide, store)
    path = tmp_path_factory.mktemp("careful-bundle")
    dataclasses.replace(parts, router=store).write(Storage.open(path))
    return path


@pytest.fixture(scope="session")
def two_kinds(careful_bundle_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """An image that the careful bundle restores, and one that it leaves as it is."""
    restorer, rng = Restorer.load(careful_bundle_path), np.random.default_rng(0)
    found: dict[bool, np.ndarray] = {}
    for _ in range(40):
        scale, offset = rng.uniform(0.1, 0.7, (1, 1, 3)), rng.uniform(0, 0.3)
        image = (255 * (rng.random((40, 56, 3)) * scale + offset)).astype(np.uint8)
        found.setdefault(restorer.route(image).expert is None, image)
    return found[False], found[True]


@pytest.fixture(scope="session")
def told_bundle(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Bundles whose networks are told of the whole image, by the network's name; only read."""

    @functools.cache
    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp(f"told-{name}")
        told_restorer(parts, folder, TOLD[name])
        return folder / "bundle"

    return made


@pytest.fixture(scope="session")
def adapter_parts(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """The same tree, whose experts but the root's are adapters on it."""
    store = Storage.open(tmp_path_factory.mktemp("adapters"))
    root = parts.experts[0]
    for node in parts.experts.keys() - {0}:
        make_adapter(node, store.sub(str(node)), root)
    adapters = {node: store.sub(str(node)) for node in parts.experts.keys() - {0}}
    return dataclasses.replace(parts, experts={0: root} | adapters)


@pytest.fixture(scope="session")
def adapter_bundle_path(adapter_parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of adapters that tests only read."""
    path = tmp_path_factory.mktemp("adapter-bundle")
    adapter_parts.write(Storage.open(path))
    return path
