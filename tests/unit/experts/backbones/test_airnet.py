"""AirNet: the published names and shapes, its bent convolutions, and what its encoder learns by."""

import math

import pytest
import torch
import torch.nn.functional as F

from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.airnet import (
    AirNetConfig,
    DeformableConvolution,
    Guided,
    objective,
    sample_taps,
)
from expertree.experts.backbones.airnet_encoder import Contrast, contrastive_loss
from expertree.experts.batches import Batch
from expertree.experts.losses import l1

TINY = AirNetConfig(width=4, groups=1, blocks=1, embedding=8, queue=10)
SHAPES = {
    "R.head.0.weight": (64, 3, 3, 3),
    "R.body.4.body.4.dgm2.dcn.weight": (64, 64, 3, 3),
    "R.body.0.body.0.dgm1.dcn.conv_offset_mask.weight": (27, 128, 3, 3),
    "R.body.0.body.0.dgm1.sft.conv_gamma.2.weight": (64, 64, 1, 1),
    "R.body.0.body.0.dgm1.sft.conv_beta.0.weight": (64, 64, 1, 1),
    "R.body.0.body.0.conv1.bias": (64,),
    "R.body.0.body.5.weight": (64, 64, 3, 3),
    "R.body.5.weight": (64, 64, 3, 3),
    "R.tail.0.weight": (3, 64, 3, 3),
    "E.E.encoder_q.E_pre.backbone.0.weight": (64, 3, 3, 3),
    "E.E.encoder_q.E_pre.backbone.4.running_mean": (64,),
    "E.E.encoder_q.E_pre.shortcut.1.num_batches_tracked": (),
    "E.E.encoder_q.E.1.shortcut.0.weight": (256, 128, 1, 1),
    "E.E.encoder_q.mlp.2.weight": (256, 256),
}


def make():
    torch.manual_seed(0)
    return build_backbone(TINY)


def batch(num=4, phase=1):
    torch.manual_seed(1)
    lq, gt, second = torch.rand(3, num, 3, 12, 12)
    return Batch(lq=lq, gt=gt, tasks=[("noise",)] * num, second=second, phase=phase)


def test_state_dict_has_the_published_names_and_shapes():
    with torch.device("meta"):
        found = build_backbone(AirNetConfig()).state_dict()
    assert {name: tuple(found[name].shape) for name in SHAPES} == SHAPES
    assert not [name for name in found if "slow" in name or "queue" in name]


def test_parts_have_the_sizes_of_the_paper():
    with torch.device("meta"):
        network = build_backbone(AirNetConfig())
    sizes = {
        name: sum(p.numel() for p in network.get_submodule(name).parameters())
        for name in ("R", "E", "E.E.encoder_q.E_pre", "R.body.0.body.0.dgm1")
    }
    restorer, encoder, active = 6_290_441, 1_319_936, 6_329_609
    assert sizes == {
        "R": restorer,
        "E": encoder,
        "E.E.encoder_q.E_pre": active - restorer,
        "R.body.0.body.0.dgm1": 84_379,
    }
    assert network.E[0].slow.shape == (encoder,)


def test_taps_are_those_of_torchvisions_operator():
    operator = pytest.importorskip("torchvision.ops").deform_conv2d
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 9, 7), torch.randn(4, 3, 3, 3)
    offsets, shares = 2 * torch.randn(2, 18, 9, 7), torch.rand(2, 9, 9, 7)
    taps = sample_taps(x, offsets) * shares[:, None]
    found = torch.einsum("bcthw,oct->bohw", taps, weight.flatten(2))
    expected = operator(x, offsets, weight, padding=1, mask=shares)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_deformable_convolution_starts_as_a_plain_one_of_half_the_strength():
    torch.manual_seed(0)
    layer = DeformableConvolution(4)
    x, degradation = torch.randn(2, 2, 4, 8, 6)
    expected = F.conv2d(x, layer.weight, padding=1) / 2
    torch.testing.assert_close(layer(x, degradation), expected, rtol=0, atol=1e-5)


def test_the_degradation_scales_and_shifts_the_features():
    torch.manual_seed(0)
    layer = Guided(4)
    layer.dcn.weight.data.zero_()
    x, degradation = torch.randn(2, 2, 4, 8, 6)
    factor, offset = layer.sft.conv_gamma(degradation), layer.sft.conv_beta(degradation)
    torch.testing.assert_close(layer(x, degradation), x + factor * x + offset, rtol=0, atol=1e-6)


def test_contrast_is_chance_where_all_are_alike_and_nought_where_only_the_key_is_near():
    vector = F.normalize(torch.ones(1, 6), dim=1)
    alike = contrastive_loss(vector, vector, vector.expand(7, 6))
    assert float(alike) == pytest.approx(math.log(8), abs=1e-5)
    assert contrastive_loss(vector, vector, -vector.expand(7, 6)) < 1e-10
    assert contrastive_loss(vector, -vector, vector.expand(7, 6)) > 20


def test_the_queue_has_the_newest_keys_and_the_copy_follows_slowly():
    torch.manual_seed(0)
    contrast = Contrast(4, 8, 5).train()
    before = contrast.queue.clone()
    crops = torch.rand(3, 3, 12, 12)
    contrast(contrast.encoder_q.E_pre(crops), crops)
    weights = torch.cat([p.detach().flatten() for p in contrast.encoder_q.parameters()])
    assert torch.equal(contrast.slow, weights)
    assert torch.equal(contrast.queue[3:], before[3:])
    with torch.no_grad():
        # At the first step the copy is the encoder, which normalises by the batch.
        torch.testing.assert_close(contrast.queue[:3], contrast.encoder_q(crops), rtol=0, atol=1e-5)
        for p in contrast.encoder_q.parameters():
            p.add_(1.0)
    first = contrast.queue[:1].clone()
    contrast(contrast.encoder_q.E_pre(crops), crops)
    torch.testing.assert_close(contrast.slow, weights + 0.001, rtol=0, atol=1e-5)
    assert not torch.equal(contrast.queue[:1], first)
    assert int(contrast.num_queued) == 6


def test_the_first_phase_teaches_the_encoder_alone_and_the_second_all():
    moved = {}
    for phase in (0, 1):
        network = make()
        for _ in range(3):  # the queue is then full of what the crops are to be told from
            objective(network, batch(phase=phase), l1)
        loss = objective(network, batch(phase=phase), l1)
        loss.backward()
        moved[phase] = {
            name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()
        }
        assert float(loss.detach()) > 0.5
    encoder = {name for name in moved[1] if name.startswith("E.")}
    assert moved[0] == encoder
    assert {"E.E.encoder_q.mlp.2.weight", "E.E.encoder_q.E_pre.backbone.0.weight"} <= encoder
    restorer = {name for name, _ in make().named_parameters() if name.startswith("R.")}
    assert moved[1] - encoder == restorer


def test_the_contrast_counts_as_much_as_the_config_says():
    network = make()
    with torch.no_grad():
        whole = float(objective(network, batch(), l1))
        first = float(objective(make(), batch(phase=0), l1))
        pixels = float(l1(make()(batch().lq), batch().gt))
    assert whole == pytest.approx(pixels + 0.1 * first, rel=1e-5)


def test_an_image_is_restored_alike_alone_and_beside_others_and_each_time():
    network = make()
    objective(network, batch(), l1)
    network.eval()
    image = torch.rand(3, 3, 11, 9)
    with torch.no_grad():
        together = network(image)
        assert torch.equal(together, network(image))
        for n in range(3):
            alone = network(image[n : n + 1])
            torch.testing.assert_close(alone, together[n : n + 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("width", 0), ("groups", 0), ("queue", 0)])
def test_what_cannot_be_built_is_refused(name, value):
    with pytest.raises(ValueError, match=f"airnet needs {name} of at least 1; got 0"):
        AirNetConfig(**{name: value})
