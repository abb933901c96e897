"""Plan what is measured: an item for each image, with a key that says whether it was before."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from expertree.classical import VERSION as CLASSICAL_VERSION
from expertree.config import fingerprint
from expertree.datasets import Dataset, Found, Pair, Protocol
from expertree.datasets.layouts import PICTURES

VERSION = 2
"""Version of the measure. Raise it when an image would get another score: scores of earlier runs
are then not taken again."""

SHOWN = 12
"""Most photographs without ground truth that are restored and shown of a set, taken evenly."""

IMAGE = "image"
"""Kind of the events that hold scores, in a run's log."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image to measure, or one photograph without ground truth to show.

    Attributes:
        key: Hash of all that its scores depend on: model, methods, protocols, names and files.
        dataset: Name of its set.
        split: Part of the set.
        pair: The pair.
        protocols: Protocols under which it is measured; none for a photograph that is shown.
        classical: Whether classical methods are measured too.
        picture: For a photograph the file that its pictures before and after go to.
        expert: Node of the expert that restores it; None where the routers choose.
    """

    key: str
    dataset: str
    split: str
    pair: Pair
    protocols: tuple[Protocol, ...]
    classical: bool
    picture: Path | None = None
    expert: int | None = None


def plan(
    found: Sequence[Found],
    *,
    model: str,
    classical: bool,
    output: Path,
    expert: int | None = None,
) -> list[Item]:
    """Return an item for each image of the sets, in their order.

    Args:
        found: The sets.
        model: Digest of the model.
        classical: Whether classical methods are measured too.
        output: Folder of the run, where pictures of photographs go.
        expert: Node of the expert that restores all of them; None where the routers choose.
    """
    items: list[Item] = []
    own = {"model": model} if expert is None else {"model": model, "expert": expert}
    for one in found:
        for dataset in one.splits:
            if all(pair.gt is None for pair in dataset):
                items += _shown(dataset, own, output)
            else:
                items += _measured(dataset, own, classical=classical)
    return [dataclasses.replace(item, expert=expert) for item in items]


def _measured(dataset: Dataset, own: Mapping[str, Any], *, classical: bool) -> list[Item]:
    protocols = (dataset.protocol, *dataset.others)
    same = {
        "version": VERSION,
        **own,
        "classical": CLASSICAL_VERSION if classical else None,
        "dataset": dataset.name,
        "split": dataset.split,
        "protocols": [dataclasses.asdict(protocol) for protocol in protocols],
    }
    return [
        Item(
            key=_key(same, pair),
            dataset=dataset.name,
            split=dataset.split,
            pair=pair,
            protocols=protocols,
            classical=classical,
        )
        for pair in dataset
    ]


def _shown(dataset: Dataset, own: Mapping[str, Any], output: Path) -> list[Item]:
    pairs = dataset.pairs
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).round().astype(int))
    same = {"version": VERSION, **own, "dataset": dataset.name, "shown": True}
    items = []
    for pair in (pairs[index] for index in chosen.tolist()):
        key = _key(same, pair)
        items.append(
            Item(
                key=key,
                dataset=dataset.name,
                split=dataset.split,
                pair=pair,
                protocols=(),
                classical=False,
                picture=output / PICTURES / f"{key}.png",
            )
        )
    return items


def _key(same: Mapping[str, Any], pair: Pair) -> str:
    return fingerprint({**same, "pair": pair.name, "files": [_state(pair.gt), _state(pair.lq)]})


def _state(path: Path | None) -> tuple[int, int] | None:
    """Return length and time of change of a file, so that another file is another item."""
    if path is None:
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns
