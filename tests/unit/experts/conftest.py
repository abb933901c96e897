"""Small patch tables, sharded into files in several ways; each network in turn."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expert_jobs import JOB
from expertree.degradation.recipe import draw_recipe
from expertree.experts.patches import read_patches
from expertree.experts.training import train_expert
from expertree.images.io import encode_png
from expertree.storage import Storage
from networks import TINY

TASKS = ("noise", "blur", "haze")
RECIPES = {
    task: draw_recipe(np.random.default_rng(0), tasks=(task,), kind="single", severity="in")
    for task in TASKS
}


@pytest.fixture
def tiny_networks():
    return TINY


@pytest.fixture(params=TINY)
def tiny(request):
    """Each kind of network in turn."""
    return TINY[request.param]


def patch_table(num_rows: int, *, size_px: int = 24, seed: int = 0) -> pa.Table:
    """Rows with the columns that experts read (and one they must not), in shuffled order."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in rng.permutation(num_rows):
        clean = rng.integers(0, 256, (size_px // 8, size_px // 8, 3)).repeat(8, 0).repeat(8, 1)
        clean = clean.astype(np.uint8)
        spoiled = np.clip(clean * 0.7 + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
        task = TASKS[n % len(TASKS)]
        rows.append(
            {
                "id": f"train/0000-photo/{n:05d}",
                "photo": "photo",
                "kind": "single",
                "tasks": [task],
                "caption": f"medium {task}",
                "recipe": RECIPES[task].to_json(),
                "lq": encode_png(spoiled),
                "gt": encode_png(clean),
            }
        )
    return pa.Table.from_pylist(rows)


def write_shards(storage: Storage, table: pa.Table, num_files: int, rows_per_group: int = 4):
    """Deal the rows to files in turn; returns the files' names."""
    storage.filesystem.create_dir(storage.path(), recursive=True)
    names = [f"part-{n:03d}.parquet" for n in range(num_files)]
    for n, name in enumerate(names):
        part = table.take(list(range(n, table.num_rows, num_files)))
        path = storage.path(name)
        pq.write_table(
            part,
            path,
            filesystem=storage.filesystem,
            row_group_size=rows_per_group,
            compression="none",
            use_dictionary=False,
        )
    return names


@pytest.fixture
def make_table():
    return patch_table


@pytest.fixture
def write_files():
    return write_shards


@pytest.fixture
def storage(tmp_path):
    return Storage.open(tmp_path / "table")


@pytest.fixture
def table():
    return patch_table(20)


@pytest.fixture
def files(storage, table):
    return write_shards(storage, table, 3)


@pytest.fixture(scope="session")
def same_table(tmp_path_factory):
    """A table like each test's own, and its files; tests only read it."""
    table = Storage.open(tmp_path_factory.mktemp("same-table"))
    return table, write_shards(table, patch_table(20), 3)


@pytest.fixture
def patches(same_table):
    return read_patches(*same_table)


@pytest.fixture
def train(tmp_path, patches, monkeypatch):
    """Train into a directory of that name; a report after each step, not after each second."""
    monkeypatch.setattr("expertree.training.loop._SECONDS_BETWEEN_REPORTS", 0.0)

    def run(name, job=JOB, on_progress=None, part=None):
        directory = Storage.open(tmp_path / name)
        result = train_expert(
            job, patches=patches, directory=directory, on_progress=on_progress, part=part
        )
        return directory, result

    return run


@pytest.fixture(scope="session")
def undisturbed(same_table, tmp_path_factory):
    """The directory of what a job gives, trained once; tests only read it."""
    folder = Storage.open(tmp_path_factory.mktemp("undisturbed"))

    @functools.cache
    def trained(job, look):
        directory = folder.sub(f"{job.key}-{job.fingerprint}")
        train_expert(job, patches=read_patches(*same_table, look=look), directory=directory)
        return directory

    trained(JOB, None)  # before any test changes what a training meets
    return lambda job=JOB, look=None: trained(job, look)
