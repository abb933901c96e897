"""Small patch tables, sharded into files in several ways; the smallest network of each kind."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expertree.degradation.recipe import draw_recipe
from expertree.experts.backbones.adair import AdaIRConfig
from expertree.experts.backbones.airnet import AirNetConfig
from expertree.experts.backbones.instructir import InstructIRConfig
from expertree.experts.backbones.lora_ir import LoRAIRConfig
from expertree.experts.backbones.moce_ir import MoCEIRConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.backbones.promptir import PromptIRConfig
from expertree.experts.backbones.restormer import RestormerConfig
from expertree.experts.backbones.retinexformer import RetinexformerConfig
from expertree.experts.backbones.sler_ir import SLERIRConfig
from expertree.images.io import encode_png
from expertree.storage import Storage

TASKS = ("noise", "blur", "haze")
RECIPES = {
    task: draw_recipe(np.random.default_rng(0), tasks=(task,), kind="single", severity="in")
    for task in TASKS
}
TINY = {
    "nafnet": NAFNetConfig(width=4, encoder=(1, 1), middle=1, decoder=(1, 1)),
    "restormer": RestormerConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
    ),
    "retinexformer": RetinexformerConfig(width=4, encoder=(1, 1), middle=1),
    "promptir": PromptIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
        prompts=2,
        prompt_widths=(8, 4, 4),
        prompt_px=(2, 4, 8),
    ),
    "adair": AdaIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
    ),
    "moce_ir": MoCEIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
        windows=(2, 4, 8),
        gate="output",
    ),
    "airnet": AirNetConfig(width=4, groups=1, blocks=1, embedding=8, queue=10),
    "instructir": InstructIRConfig(
        width=4, encoder=(1, 1), middle=1, decoder=(1, 1), told_width=8, embed_dim=8
    ),
    "lora_ir": LoRAIRConfig(
        width=4,
        encoder=(1, 1),
        middle=1,
        decoder=(1, 1),
        kinds=("noise", "blur", "haze"),
        rank=2,
        embed_dim=8,
        router_hidden=8,
        router_dim=8,
        gate_hidden=4,
    ),
    "sler_ir": SLERIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
        experts=2,
        embed_dim=8,
        router_hidden=8,
        router_dim=4,
        prior_width=8,
    ),
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
