"""Scores are those of the metrics, patch by patch, on 8-bit images."""

import numpy as np
import pytest
import torch
from torch import nn

from expertree.experts.scoring import score_expert, score_inputs
from expertree.images.io import decode_u8, to_float, to_u8
from expertree.images.metrics import psnr_rgb, psnr_y, ssim


class Darker(nn.Module):
    """An expert whose output leaves [0, 1]."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(-0.3))

    def forward(self, image):
        return image + self.offset


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_scores_equal_the_metrics_one_patch_at_a_time(table, patches, batch_size):
    scores = score_expert(Darker(), patches, batch_size=batch_size)
    for n, row in enumerate(table.sort_by("id").to_pylist()):
        clean = decode_u8(row["gt"])
        restored = to_u8(to_float(decode_u8(row["lq"])) - 0.3)
        assert scores["psnr_rgb"][n] == pytest.approx(psnr_rgb(restored, clean), abs=1e-9)
        assert scores["psnr_y"][n] == pytest.approx(psnr_y(restored, clean), abs=1e-9)
        assert scores["ssim"][n] == pytest.approx(ssim(restored, clean), abs=1e-9)
        error = np.abs(restored.astype(float) - clean).mean() / 255
        assert scores["l1"][n] == pytest.approx(error, abs=1e-12)


def test_scores_of_the_inputs_are_those_of_a_network_that_does_nothing(patches):
    ours, nothing = score_inputs(patches), score_expert(Nothing(), patches)
    for name, values in ours.items():
        assert values.shape == (20,)
        np.testing.assert_array_equal(values, nothing[name])


class Nothing(Darker):
    """Gives the image back."""

    def forward(self, image):
        return image + 0 * self.offset
