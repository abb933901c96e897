"""What networks keep beside their weights is the same in all workers, and what it is for one."""

import multiprocessing
import pickle

import pytest
import torch
import torch.distributed as dist

from expertree.experts.backbones.spherical import Router
from expertree.experts.batches import Batch
from expertree.experts.learner import ExpertLearner
from expertree.experts.recipe import ExpertJob, RecipeConfig
from expertree.training import ALONE, Workers
from networks import TINY

NUM_STEPS = 4
RECIPE = RecipeConfig(batch_size=5, patch_px=32, fresh=False, micro_batch_size=2)


def learn(name, workers):
    """Let one worker take its share of some steps; return its network's buffers."""
    torch.set_num_threads(1)
    job = ExpertJob(key="e", backbone=TINY[name], recipe=RECIPE, num_samples=1000, seed=0)
    learner = ExpertLearner(job, device=torch.device("cpu"), workers=workers, on_note=print)
    generator = torch.Generator().manual_seed(1)
    for step in range(NUM_STEPS):
        first, second = torch.rand(2, 5, 3, 32, 32, generator=generator)
        seen = torch.randn(5, 8, generator=generator)
        own = list(workers.share(range(5)))
        batch = Batch(
            lq=first[own],
            gt=first[own],
            second=second[own],
            tasks=[("noise", "blur")[row % 2 :][:1] for row in own],
            condition={"embedding": seen[own]} if name == "sler_ir" else {},
        )
        learner.learn(batch, range(5 * step, 5 * step + 5), 1.0)
    return {key: value.clone() for key, value in learner.network.named_buffers()}


def work(folder, name, rank):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = learn(name, Workers(rank=rank, count=2))
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(params=["airnet", "sler_ir"])
def together(request, tmp_path):
    """The name of a network, and its buffers in each of two workers."""
    if torch.cuda.is_available():
        pytest.skip("autograd's threads for GPUs survive no fork")
    context = multiprocessing.get_context("fork")  # a new process would import for seconds
    args = [(tmp_path, request.param, rank) for rank in range(2)]
    workers = [context.Process(target=work, args=own) for own in args]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=100)
        worker.kill()
    assert [worker.exitcode for worker in workers] == [0, 0]
    return request.param, [
        pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in range(2)
    ]


def test_buffers_are_the_same_in_all_workers_and_made_of_all_samples(together):
    name, (first, second) = together
    counts = ("num_batches_tracked",)  # of pieces, which weigh nothing here
    for key, value in first.items():
        assert key.endswith(counts) or torch.equal(value, second[key]), key
    alone = learn(name, ALONE)
    lengths = {key: value.norm(dim=1) for key, value in first.items() if value.ndim == 2}
    assert lengths
    for key, value in lengths.items():
        torch.testing.assert_close(value, torch.ones(len(value)), msg=key)
    for key, value in alone.items():
        if key.endswith("num_queued"):
            assert value == first[key] == 5 * NUM_STEPS


def test_centres_of_several_workers_are_of_length_1_and_stay_where_all_agree():
    router, other = (Router(8, 8, 4, 8, 3) for _ in range(2))
    before = {"centres": router.centres.clone()}
    router.join(before, lambda rows: torch.cat([rows] * 3))
    assert torch.equal(router.centres, before["centres"])
    other.follow(torch.nn.functional.normalize(torch.rand(5, 8, 4), dim=-1))
    router.join(before, lambda rows: torch.cat([rows, other.centres[None]]))
    torch.testing.assert_close(router.centres.norm(dim=1), torch.ones(3), rtol=0, atol=3e-7)
    assert not torch.equal(router.centres, before["centres"])
