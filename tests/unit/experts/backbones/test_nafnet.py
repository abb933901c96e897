"""NAFNet in both of its forms against spandrel's own network, its oracle."""

import pytest
import torch
from spandrel.architectures.NAFNet import NAFNet as SpandrelNAFNet

from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig

# float32 rounding through seven blocks, relative to the largest entry of each tensor.
OUTPUT_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def oracle():
    torch.manual_seed(0)
    network = SpandrelNAFNet(
        width=8, enc_blk_nums=[1, 0, 2], middle_blk_num=1, dec_blk_nums=[2, 1, 1]
    )
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return network


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.filterwarnings("ignore:.*saved_variables:DeprecationWarning")
def test_outputs_and_gradients_equal_spandrels(oracle, fast):
    config = NAFNetConfig(width=8, encoder=(1, 0, 2), middle=1, decoder=(2, 1, 1))
    network = build_backbone(config, fast=fast)
    network.load_state_dict(oracle.state_dict())
    image = torch.rand(3, 3, 24, 32)
    restored = {}
    for name, candidate in (("oracle", oracle), ("ours", network)):
        candidate.zero_grad()
        restored[name] = candidate(image)
        (restored[name] - 0.3).abs().mean().backward()
    torch.testing.assert_close(restored["ours"], restored["oracle"], rtol=0, atol=OUTPUT_TOLERANCE)
    for (name, ours), (_, theirs) in zip(
        network.named_parameters(), oracle.named_parameters(), strict=True
    ):
        bound = GRADIENT_TOLERANCE * float(theirs.grad.abs().max())
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=bound, msg=name)


@pytest.mark.parametrize("fast", [True, False])
def test_state_dict_has_the_published_names_and_shapes(oracle, fast):
    config = NAFNetConfig(width=8, encoder=(1, 0, 2), middle=1, decoder=(2, 1, 1))
    ours = build_backbone(config, fast=fast).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in oracle.state_dict().items()
    }
    assert list(ours) == list(oracle.state_dict())


def test_fresh_weights_are_spandrels():
    torch.manual_seed(3)
    theirs = SpandrelNAFNet(width=8, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])
    torch.manual_seed(3)
    ours = build_backbone(NAFNetConfig(width=8, encoder=(1,), middle=1, decoder=(1,)))
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=0, atol=0)
