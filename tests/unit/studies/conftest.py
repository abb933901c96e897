"""What a finished build leaves, made by hand: no images, no networks, known best experts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from expertree.hierarchy import HierarchyConfig, assign, build_tree, save_tree
from expertree.pipeline.score import INPUTS
from expertree.pipeline.score_columns import MEASURES_FILE
from expertree.pipeline.stages import stage_key
from expertree.pipeline.tables import read_table, write_table
from expertree.storage import Storage

TASKS = ("noise", "blur", "haze", "rain")
NUM_PATCHES = 80


def patch_set(store: Storage, name: str, *, seed: int) -> tuple[Storage, Storage, np.ndarray]:
    """A table of single and mixed patches, and embeddings around one centre for each task."""
    rng = np.random.default_rng(seed)
    labels = np.arange(NUM_PATCHES) % len(TASKS)
    centres = 4 * np.random.default_rng(0).normal(size=(len(TASKS), 8))
    points = (centres[labels] + 0.2 * rng.normal(size=(NUM_PATCHES, 8))).astype(np.float32)
    ids = [f"{name}/{row:05d}" for row in range(NUM_PATCHES)]
    mixed = np.arange(NUM_PATCHES) % 5 == 0
    tasks = [[TASKS[n], *(["snow"] if m else [])] for n, m in zip(labels, mixed, strict=True)]
    table, embeddings = store.sub("degrade", f"t-{name}"), store.sub("embed", f"e-{name}")
    captions = [", ".join(f"medium {task}" for task in own) for own in tasks]
    rows = pa.table({"id": ids, "tasks": pa.array(tasks), "caption": captions})
    write_table(table, "part-00000.parquet", rows)
    column = pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), 8)
    write_table(embeddings, "part-00000.parquet", pa.table({"id": ids, "embedding": column}))
    embeddings.commit({"table": f"t-{name}", "extractor": "x"})
    return table, embeddings, points


def write_scores(store: Storage, expert: str, table: str, psnr: np.ndarray) -> None:
    """The scores of an expert, or of the inputs, on a table."""
    spec = {"expert": expert, "table": table}
    directory = store.sub("score", stage_key("score", spec))
    columns = {"l1": 10 ** (-psnr / 20), "psnr_rgb": psnr, "psnr_y": psnr, "ssim": 0 * psnr}
    ids = [f"{table}/{row:05d}" for row in range(len(psnr))]
    write_table(directory, "scores.parquet", pa.table({"id": ids, **columns}))
    directory.commit(spec)


@pytest.fixture
def finished_build(tmp_path: Path) -> Path:
    """The output folder of a build of groups 1, 2, 4: on its own leaf an expert gains 2 dB a level.

    Mixed patches are best restored one level above their leaf.
    """
    store, output = Storage.open(tmp_path / "store"), Storage.open(tmp_path / "out")
    stored: dict[str, str] = {}
    sets = {}
    for seed, name in enumerate(("train", "route", "val_in", "val_out"), start=1):
        table, embeddings, points = patch_set(store, name, seed=seed)
        stored |= {f"degrade/{name}": table.uri, f"embed/{name}": embeddings.uri}
        sets[name] = points
    config = HierarchyConfig(groups=(1, 2, 4))
    tree, leaves = build_tree(sets["train"], config, extractor="x")
    save_tree(tree, store.sub("tree", "tree"))
    ids = [f"train/{row:05d}" for row in range(NUM_PATCHES)]
    rows = pa.table({"id": ids, "leaf": leaves})
    write_table(store.sub("tree", "tree"), "leaves.parquet", rows)
    stored |= {"tree": store.sub("tree", "tree").uri, "bundle": store.sub("bundle", "b").uri}
    for name in ("route", "val_in", "val_out"):
        leaves = assign(tree, sets[name])
        mixed = np.arange(NUM_PATCHES) % 5 == 0
        write_scores(store, INPUTS, f"t-{name}", np.full(NUM_PATCHES, 15.0))
        measures = store.sub("score", f"m-{name}")
        stored[f"measures/{name}"] = measures.uri
        column = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2.0 * NUM_PATCHES)), 2)
        write_table(measures, MEASURES_FILE, pa.table({"measures": column}))
        for node in tree.experts():
            level = max(tree.levels_of_expert(node))
            own = np.isin(leaves, tree.nodes[node].leaves)
            best = np.where(mixed, level == 1, level == 2)
            psnr = 20.0 + 2.0 * own * level + 3.0 * own * best
            write_scores(store, f"expert-{node}", f"t-{name}", psnr)
    experts = [{"index": node, "key": f"expert-{node}"} for node in tree.experts()]
    comparison = {"index": None, "key": "comparison"}
    output.write_json("report.json", {"stored": stored, "experts": [*experts, comparison]})
    return tmp_path / "out"


@pytest.fixture
def take_mixtures(finished_build: Path) -> Callable[[str], None]:
    """A function that leaves each patch of a set its first degradation alone."""

    def take(name: str) -> None:
        stored = Storage.open(finished_build).read_json("report.json")["stored"]
        table = Storage.open(stored[f"degrade/{name}"])
        rows = read_table(table, "part-00000.parquet")
        tasks = pa.array([own[:1] for own in rows["tasks"].to_pylist()])
        rows = rows.set_column(rows.column_names.index("tasks"), "tasks", tasks)
        write_table(table, "part-00000.parquet", rows)

    return take
