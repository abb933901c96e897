"""Retinexformer against spandrel's own network, its oracle."""

import pytest
import torch
from spandrel.architectures.RetinexFormer import RetinexFormer as SpandrelRetinexFormer

from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.retinexformer import RetinexformerConfig


@pytest.mark.parametrize("stages", [1, 2])
def test_names_weights_and_outputs_are_spandrels(stages):
    torch.manual_seed(0)
    oracle = SpandrelRetinexFormer(n_feat=8, stage=stages, num_blocks=[1, 2, 1]).eval()
    torch.manual_seed(0)
    config = RetinexformerConfig(width=8, encoder=(1, 2), middle=1, stages=stages)
    network = build_backbone(config).eval()
    theirs, ours = oracle.state_dict(), network.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    image = torch.rand(2, 3, 16, 20)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), oracle(image), rtol=0, atol=0)
