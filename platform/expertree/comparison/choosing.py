"""The stage that asks networks with experts of their own which of them each patch is sent to."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from expertree.comparison.plan import VAL_IN, Common, Training
from expertree.experts import PairedPatches
from expertree.experts.backbones import chooses
from expertree.experts.choices import run_network
from expertree.experts.telling import Told
from expertree.pipeline.runner import OnDone
from expertree.pipeline.score import SCORE_BATCH, open_expert, read_to_score
from expertree.pipeline.stages import Workbench, key_of
from expertree.pipeline.tables import read_table, write_table
from expertree.storage import Storage

Choose: TypeAlias = Callable[[Float[Tensor, "b 3 h w"]], Int[Tensor, "b places"]]
"""A function from images to the experts that they are sent to."""

_FILE = "choices.parquet"


def make_choices(
    bench: Workbench, common: Common, trainings: Sequence[Training]
) -> dict[str, Storage]:
    """Return the stored choices of each network that makes some, by its key."""
    plans = [t.plans[0] for t in trainings if not t.method.tree]
    choosing = {plan.key: plan.result for plan in plans if chooses(plan.job.backbone)}
    table = common.tables[VAL_IN]
    specs = {key: {"expert": key, "table": key_of(table)} for key in choosing}

    def make(missing: Mapping[str, Storage], on_done: OnDone) -> None:
        items = [
            {"expert": choosing[key], "table": table, "directory": result}
            for key, result in missing.items()
        ]
        bench.runner.for_each(_write_choices, items, on_done)

    return bench.run_many("choices", specs, make) if specs else {}


def read_choices(result: Storage) -> Int[np.ndarray, "patches places"]:
    """Read what a network chose, in the order of the patches' ids."""
    rows = read_table(result, _FILE)["choices"].to_pylist()
    return np.array(rows, dtype=np.int64)


def choices_of(choose: Choose, patches: PairedPatches) -> Int[np.ndarray, "patches places"]:
    """Return the expert that a network sends each patch to, at each of its places of choice."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(patches), SCORE_BATCH):
            rows = range(start, min(start + SCORE_BATCH, len(patches)))
            images = patches.lq(rows).float().div_(255.0)
            found.append(choose(images).numpy())
    return np.concatenate(found)


def _write_choices(item: Mapping[str, Any]) -> None:
    torch.set_num_threads(1)
    network = open_expert(item["expert"]).eval()
    patches = read_to_score(item["table"])
    chosen = choices_of(functools.partial(_choose, network), patches)
    rows = pa.table({"id": patches.ids, "choices": pa.array(chosen.tolist())})
    write_table(item["directory"], _FILE, rows)


def _choose(network: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b places"]:
    _, taken = network.run(images) if isinstance(network, Told) else run_network(network, images)
    if taken is None:
        raise TypeError(f"a {type(network).__name__} has no experts to choose from")
    return taken.argmax(dim=-1)
