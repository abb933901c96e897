"""A tree of a root and two leaves, and numbers that can be checked by hand."""

import dataclasses

import numpy as np
import pytest

from expertree.evaluation import Evaluated, Scores
from expertree.hierarchy import HierarchyConfig, Tree, build_tree
from expertree.routing import Route


@pytest.fixture(scope="session")
def tree() -> Tree:
    """Root and two leaves."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(c, 0.1, (20, 4)) for c in (0.0, 5.0)]).astype(np.float32)
    return build_tree(points, HierarchyConfig(groups=(1, 2)), extractor="x")[0]


def scores(psnr: list[float]) -> Scores:
    values = np.array(psnr, dtype=np.float64)
    return Scores(l1=1 / values, psnr_rgb=values, psnr_y=values + 1, ssim=values / 100)


def route(leaf: int, level: int) -> Route:
    node = 0 if level == 0 else 1 + leaf
    return Route(
        node=node,
        expert=node,
        level=level,
        leaf=leaf,
        leaf_probabilities=(0.5, 0.5),
        level_probabilities=(0.5, 0.5),
        confidence=0.5,
    )


@pytest.fixture
def data() -> Evaluated:
    """Three single patches and a mixed one."""
    return Evaluated(
        tasks=[("noise",), ("noise",), ("rain",), ("noise", "rain")],
        inputs=scores([10, 10, 10, 20]),
        comparisons={
            "one_network": scores([20, 20, 20, 20]),
            "one_network_tree": scores([21, 21, 21, 21]),
        },
        experts={
            0: scores([19, 21, 19, 19]),
            1: scores([25, 20, 15, 22]),
            2: scores([15, 30, 30, 18]),
        },
        routes=[route(0, 1), route(0, 1), route(1, 1), route(0, 0)],
        classical=scores([16, 14, 12, 19.95]),
    )


@pytest.fixture
def left_alone(data: Evaluated) -> Evaluated:
    """The same, but the rainy patch is left as it is."""
    routes = [*data.routes]
    routes[2] = dataclasses.replace(routes[2], expert=None)
    return dataclasses.replace(data, routes=routes)
