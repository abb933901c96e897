"""Each network of a paper takes a step of its training at the paper's size, on a CPU."""

import pytest
import torch

from expertree.experts.backbones import backbone_config, build_backbone, objective_of, phases_of
from expertree.experts.batches import Batch
from expertree.experts.gradients import Gradients
from expertree.experts.recipe import RecipeConfig
from expertree.training import FlatParameters, Optimizer

NETWORKS = ("nafnet_gopro", "restormer", "promptir", "adair", "moce_ir", "airnet")
PATCH_PX = 128

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_full_size_network_takes_a_step_at_the_papers_patch(name: str) -> None:
    torch.manual_seed(0)
    backbone = backbone_config(name)
    network = build_backbone(backbone).train()
    flat = FlatParameters(network)
    lq, gt, second = torch.rand(3, 2, 3, PATCH_PX, PATCH_PX)
    batch = Batch(
        lq=lq,
        gt=gt,
        tasks=[("noise",), ("rain",)],
        seeds=[1, 2],
        second=second,
        phase=len(phases_of(backbone)) - 1,
    )
    recipe = RecipeConfig(loss="l1", micro_batch_size=1 if name != "airnet" else None)
    gradients = Gradients(network, flat, recipe, objective=objective_of(backbone), on_note=print)
    # AirNet's queue of features is another one after each batch: both losses are with the first.
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    before = float(gradients.compute(batch, out_of=2))
    assert flat.gradient.isfinite().all()
    assert flat.clip_gradients(1.0) > 0
    optimizer = Optimizer([flat.vector], learning_rate=1e-5, weight_decay=0.0)
    optimizer.step(1.0)
    for key, buffer in network.named_buffers():
        buffer.copy_(kept[key])
    assert float(gradients.compute(batch, out_of=2)) < before
