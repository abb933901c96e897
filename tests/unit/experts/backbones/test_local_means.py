"""Means over windows, against the slow and plain way, and in NAFNet's two forms."""

import pytest
import torch
from torch import nn

from expertree.experts.backbones import BACKBONES, backbone_config, build_backbone, has_windows
from expertree.experts.backbones.local_means import weigh_locally
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.backbones.nafnet_layers import Block, set_window, window_of

SIZES = NAFNetConfig(width=8, encoder=(1, 1), middle=1, decoder=(1, 1))
ROUNDING = 1e-5


def means_at(values: torch.Tensor, window: int) -> torch.Tensor:
    """Means over windows that begin at each quarter of their side, pixel after pixel."""
    cell, (height, width) = window // 4, values.shape[2:]

    def begins(side: int) -> list[int]:
        num_cells = -(-side // cell)
        return [cell * place for place in range(max(1, num_cells - 3))]

    means = torch.stack(
        [
            torch.stack(
                [
                    values[:, :, top : top + window, left : left + window].mean(dim=(2, 3))
                    for left in begins(width)
                ],
                dim=-1,
            )
            for top in begins(height)
        ],
        dim=-2,
    )
    for axis, side in ((2, height), (3, width)):
        last = means.shape[axis] - 1
        places = ((torch.arange(side) + 0.5) / cell - 2).clamp(0, last)
        below = places.floor().long()
        shape = [-1 if own == axis else 1 for own in range(4)]
        share = (places - below).view(shape)
        above = means.index_select(axis, (below + 1).clamp(max=last))
        means = means.index_select(axis, below) * (1 - share) + above * share
    return means


@pytest.mark.parametrize("window", [8, 16, 20, 52, 80])
def test_products_of_matrices_are_the_means_over_windows(window: int) -> None:
    values = torch.rand(2, 5, 50, 67, generator=torch.Generator().manual_seed(0))
    weigh = nn.Conv2d(5, 5, 1)
    with torch.inference_mode():
        wanted = weigh(means_at(values, window))
        found = weigh_locally(values, weigh, window)
    assert found.shape == values.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=ROUNDING)


@pytest.fixture
def networks() -> dict[bool, nn.Module]:
    torch.manual_seed(0)
    made = {fast: build_backbone(SIZES, fast=fast).eval() for fast in (True, False)}
    for parameter in made[True].parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    made[False].load_state_dict(made[True].state_dict())
    return made


def test_both_forms_take_the_same_windows(networks: dict[bool, nn.Module]) -> None:
    image = torch.rand(2, 3, 50, 68)
    with torch.inference_mode():
        whole = networks[True](image)
        for network in networks.values():
            assert set_window(network, 32)
            assert window_of(network) == 32
        found = [network(image) for network in networks.values()]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=ROUNDING)
    assert float((found[0] - whole).abs().max()) > 100 * ROUNDING


def test_an_image_that_fits_into_a_window_is_seen_whole(networks: dict[bool, nn.Module]) -> None:
    image = torch.rand(1, 3, 30, 32)
    for network in networks.values():
        with torch.inference_mode():
            whole = network(image)
            set_window(network, 32)
            assert torch.equal(network(image), whole)
            set_window(network, None)
            assert window_of(network) is None


def test_what_lies_far_away_changes_nothing_within_a_window(
    networks: dict[bool, nn.Module],
) -> None:
    image = torch.rand(1, 3, 64, 320)
    changed = image.clone()
    changed[..., 160:] = 1.0 - changed[..., 160:] ** 2
    network = networks[True]
    with torch.inference_mode():
        differ = (network(image) - network(changed)).abs().amax(dim=(0, 1, 2))
        assert float(differ[:64].max()) > 100 * ROUNDING
        set_window(network, 64)
        differ = (network(image) - network(changed)).abs().amax(dim=(0, 1, 2))
    assert float(differ[:64].max()) < ROUNDING
    assert float(differ[160:].max()) > 0.0


def test_scales_without_blocks_are_counted() -> None:
    sizes = NAFNetConfig(width=8, encoder=(0, 1, 1), middle=1, decoder=(1, 1, 0))
    network = build_backbone(sizes)
    set_window(network, 128)
    windows = {
        layer.norm1.weight.numel(): layer.window
        for layer in network.modules()
        if isinstance(layer, Block)
    }
    assert windows == {16: 64, 32: 32, 64: 16}
    assert window_of(network) == 128


def test_a_network_with_windows_is_one_that_can_be_given_some() -> None:
    for name in BACKBONES:
        config = backbone_config(name)
        with torch.device("meta"):
            network = build_backbone(config, fast=False)
        assert set_window(network, 64) == has_windows(config), name
        assert window_of(network) == (64 if has_windows(config) else None)
