"""Image restoration data sets in their usual folders: pairs of images, and how to measure them.

Nothing is downloaded. `docs/DATASETS.md` says where each set comes from and under which terms.

    dataset = open_dataset("rain100l", "/data/Rain100L")
    evaluate(dataset, lambda image: restorer.restore(image).image)
"""

from expertree.datasets.channels import in_channels
from expertree.datasets.discovery import Found, find_datasets
from expertree.datasets.pairs import Dataset, Pair, read_degraded, read_pair
from expertree.datasets.protocols import Protocol
from expertree.datasets.registry import DATASETS, open_dataset
from expertree.datasets.scenes import join_near_copies
from expertree.datasets.scoring import (
    Degraded,
    PairScore,
    Quality,
    evaluate,
    score_pair,
    score_pairs,
    summarise,
    table_of,
    to_8_bit,
)

__all__ = [
    "DATASETS",
    "Dataset",
    "Degraded",
    "Found",
    "Pair",
    "PairScore",
    "Protocol",
    "Quality",
    "evaluate",
    "find_datasets",
    "in_channels",
    "join_near_copies",
    "open_dataset",
    "read_degraded",
    "read_pair",
    "score_pair",
    "score_pairs",
    "summarise",
    "table_of",
    "to_8_bit",
]
