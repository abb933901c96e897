"""A small tree with a chain, and tables of samples whose best experts are known."""

import numpy as np
import pytest

from expertree.hierarchy import Node, Tree

EMBED_DIM = 16


@pytest.fixture(scope="session")
def tree() -> Tree:
    """Groups 1, 2, 3: node 1 splits into leaves 0 and 1, node 2 has the one child 5 (leaf 2)."""

    def node(
        index: int, level: int, parent: int | None, children: tuple[int, ...], *leaves: int
    ) -> Node:
        return Node(
            index=index,
            level=level,
            parent=parent,
            children=children,
            leaves=leaves,
            num_samples=100 * len(leaves),
        )

    rng = np.random.default_rng(0)
    leaf_centroids = 2.0 * rng.standard_normal((3, EMBED_DIM))
    upper = [leaf_centroids.mean(axis=0), leaf_centroids[:2].mean(axis=0), leaf_centroids[2]]
    return Tree(
        groups=(1, 2, 3),
        metric="l2",
        extractor="0" * 20,
        nodes=(
            node(0, 0, None, (1, 2), 0, 1, 2),
            node(1, 1, 0, (3, 4), 0, 1),
            node(2, 1, 0, (5,), 2),
            node(3, 2, 1, (), 0),
            node(4, 2, 1, (), 1),
            node(5, 2, 2, (), 2),
        ),
        centroids=np.concatenate([upper, leaf_centroids]).astype(np.float32),
        mean=np.full(EMBED_DIM, 0.5, dtype=np.float32),
        std=np.full(EMBED_DIM, 2.0, dtype=np.float32),
    )
