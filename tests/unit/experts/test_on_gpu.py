"""Training on a GPU: precision, pinned memory, too little memory, and two of them."""

import dataclasses
import os

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from expert_jobs import StoppedError
from expertree.experts.backbones import BACKBONES, build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.batches import Batch
from expertree.experts.gradients import Gradients
from expertree.experts.patches import read_patches
from expertree.experts.recipe import ExpertJob, RecipeConfig
from expertree.experts.sampling import draw_batch
from expertree.experts.scoring import score_expert, score_inputs
from expertree.experts.training import train_expert
from expertree.experts.weights import load_expert
from expertree.storage import Storage
from expertree.training.flat import FlatParameters
from expertree.training.workers import Workers

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
RECIPE = RecipeConfig(batch_size=4, patch_px=16, fresh=False, checkpoint_every_samples=40)


def job_of(backbone, **recipe):
    return ExpertJob(
        key="on-gpu",
        backbone=backbone,
        recipe=dataclasses.replace(RECIPE, **recipe),
        num_samples=200,
        seed=5,
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_network_learns_on_a_gpu_and_its_weights_work_on_a_cpu(
    tiny, patches, tmp_path, precision
):
    directory = Storage.open(tmp_path)
    train_expert(
        job_of(tiny, precision=precision), patches=patches, directory=directory, device=DEVICE
    )
    losses = directory.read_json("log.json")["curve"]["loss"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    reached = score_expert(load_expert(directory), patches)["psnr_rgb"].mean()
    if BACKBONES[tiny.name].last:  # others begin far below their input
        assert reached > score_inputs(patches)["psnr_rgb"].mean() + 0.5


def test_a_gpu_trains_what_a_cpu_does_within_rounding(patches, tmp_path):
    """With rates this small 50 steps of float32 stay within a thousandth of each other."""
    losses = {}
    for device in ("cpu", DEVICE):
        directory = Storage.open(tmp_path / device)
        job = job_of(NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)), loss="l1")
        train_expert(job, patches=patches, directory=directory, device=device)
        losses[device] = directory.read_json("log.json")["curve"]["loss"]
    assert losses[DEVICE] == pytest.approx(losses["cpu"], rel=2e-2)


def test_a_killed_training_goes_on_from_its_checkpoint(patches, tmp_path):
    job = job_of(NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)))
    directory = Storage.open(tmp_path)

    def kill(progress):
        if progress["samples"] >= 120:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("expertree.training.loop._SECONDS_BETWEEN_REPORTS", 0.0)
        with pytest.raises(StoppedError):
            train_expert(job, patches=patches, directory=directory, device=DEVICE, on_progress=kill)
    assert directory.list_files(".safetensors")
    result = train_expert(job, patches=patches, directory=directory, device=DEVICE)
    assert result.num_seen == job.num_samples


def test_batches_wait_in_pinned_memory(patches):
    batch = draw_batch(patches, range(4), patch_px=16, augment=True, seed=0).pinned()
    assert batch.lq.is_pinned()
    assert batch.gt.is_pinned()
    moved = batch.to(torch.device(DEVICE))
    assert moved.lq.device.type == DEVICE
    assert torch.equal(moved.lq.cpu(), batch.lq)


def test_a_gpu_that_is_too_small_for_a_batch_takes_it_in_pieces():
    """Of a sixteenth of what the batch needs there is room; the gradient is the whole batch's."""
    torch.manual_seed(0)
    network = build_backbone(NAFNetConfig(width=16)).to(DEVICE)
    flat, notes = FlatParameters(network), []
    image = torch.rand(64, 3, 128, 128, device=DEVICE)
    batch = Batch(lq=image, gt=image.flip(3), tasks=[("noise",)] * 64)
    gradients = Gradients(network, flat, RecipeConfig(loss="l1"), on_note=notes.append)
    torch.cuda.reset_peak_memory_stats()
    gradients.compute(batch, out_of=64)
    whole, needed = flat.gradient.clone(), torch.cuda.max_memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(needed / 4 / total)
        gradients.compute(batch, out_of=64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert notes
    assert gradients.most < 64
    torch.testing.assert_close(flat.gradient, whole, rtol=1e-3, atol=1e-6)


def _train_beside(rank, folder, meet):
    os.environ |= {"NCCL_DEBUG": "WARN"}
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{meet}", rank=rank, world_size=2)
    table = Storage.open(f"{folder}/table")
    train_expert(
        job_of(NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,))),
        patches=read_patches(table, table.list_files(".parquet")),
        directory=Storage.open(f"{folder}/two"),
        device=f"{DEVICE}:{rank}",
        workers=Workers(rank=rank, count=2),
    )
    dist.destroy_process_group()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_the_network_that_one_trains(patches, tmp_path):
    mp.spawn(_train_beside, args=(str(tmp_path), str(tmp_path / "meet")), nprocs=2)
    job = job_of(NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)))
    train_expert(job, patches=patches, directory=Storage.open(tmp_path / "one"), device=DEVICE)
    one, two = (load_expert(Storage.open(tmp_path / name)).state_dict() for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-2, atol=1e-3)
