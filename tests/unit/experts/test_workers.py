"""Two workers train what one would."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist

from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.patches import read_patches
from expertree.experts.recipe import ExpertJob, RecipeConfig
from expertree.experts.training import train_expert
from expertree.experts.weights import load_expert, read_card
from expertree.storage import Storage
from expertree.training import Workers

JOB = ExpertJob(
    key="e0",
    backbone=NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)),
    recipe=RecipeConfig(
        batch_size=5, patch_px=16, grad_clip=0.05, ema_decay=0.9, checkpoint_every_samples=20
    ),
    num_samples=61,
    seed=5,
)


def train(folder, rank, count, results):
    """One of `count` workers; a forked one must not compute with threads that its parent had."""
    torch.set_num_threads(1)
    if count > 1:
        meet = f"file://{folder}/meet"
        dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=count)
    table = Storage.open(folder / "table")
    result = train_expert(
        JOB,
        patches=read_patches(table, table.list_files(".parquet")),
        directory=Storage.open(folder / f"by-{count}"),
        workers=Workers(rank=rank, count=count),
    )
    sha256 = read_card(Storage.open(folder / f"by-{count}")).sha256
    results.put((count, sha256, result.loss))
    if count > 1:
        dist.destroy_process_group()


@pytest.mark.usefixtures("files")
@pytest.mark.skipif(torch.cuda.is_available(), reason="autograd's threads for GPUs survive no fork")
def test_two_workers_give_the_network_that_one_gives(tmp_path):
    """The same batches, summed in another order: within 1e-4 after 13 steps."""
    context = multiprocessing.get_context("fork")  # a new process would import for seconds
    results = context.SimpleQueue()
    workers = [
        context.Process(target=train, args=(tmp_path, rank, count, results))
        for rank, count in ((0, 2), (1, 2), (0, 1))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=100)
        worker.kill()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    alone, first, second = sorted(results.get() for _ in workers)
    assert first == second
    assert first[2] == pytest.approx(alone[2], rel=1e-4)
    found, expected = (load_expert(Storage.open(tmp_path / f"by-{n}")) for n in (2, 1))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-3, atol=1e-4)
