"""Image restoration data sets in their usual folders: pairs of images, and how to measure them.

Nothing is downloaded. `docs/DATASETS.md` says where each set comes from and under which terms.

    dataset = open_dataset("rain100l", "/data/Rain100L")
    evaluate(dataset, lambda image: restorer.restore(image).image)
"""

from expertree.datasets.pairs import Dataset, Pair, Protocol, read_pair
from expertree.datasets.registry import DATASETS, open_dataset
from expertree.datasets.scoring import (
    PairScore,
    Quality,
    evaluate,
    score_pairs,
    summarise,
    table_of,
)

__all__ = [
    "DATASETS",
    "Dataset",
    "Pair",
    "PairScore",
    "Protocol",
    "Quality",
    "evaluate",
    "open_dataset",
    "read_pair",
    "score_pairs",
    "summarise",
    "table_of",
]
