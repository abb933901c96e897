"""Made embeddings, and the memory of processes."""

import os

import numpy as np
import pytest

from expertree.benchmarks.cluster import ClusteringConfig, MadeEmbeddings, resident_peaks

CONFIG = ClusteringConfig(embed_dim=8, num_components=3, block_rows=100, spread=20.0)


def test_a_block_is_the_same_whenever_it_is_made_and_unlike_any_other() -> None:
    made = MadeEmbeddings(num_rows=250, config=CONFIG)
    assert list(made.sizes) == [100, 100, 50]
    blocks = [made.read(block) for block in range(3)]
    assert [block.shape for block in blocks] == [(100, 8), (100, 8), (50, 8)]
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(blocks[1], MadeEmbeddings(num_rows=900, config=CONFIG).read(1))
    assert not np.array_equal(blocks[0], blocks[1])
    clouds = {tuple(row) for row in np.round(np.concatenate(blocks) / 20).astype(int).tolist()}
    assert len(clouds) < 30


def test_resident_peaks_name_this_process_and_no_stranger() -> None:
    array = np.ones(2**24)
    peaks = dict(resident_peaks(os.getpid()))
    assert peaks["driver"] > array.nbytes
    assert not any(name.endswith(" 1") for name in peaks)


@pytest.mark.parametrize("change", [{"block_rows": 0}, {"num_embeddings": ()}])
def test_what_makes_no_embeddings_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
        ClusteringConfig(**change)
