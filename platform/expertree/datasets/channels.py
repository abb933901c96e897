"""Other channels of PSNR and SSIM than those that a split is usually measured in."""

import dataclasses

from expertree.datasets.pairs import Dataset
from expertree.datasets.protocols import Channels
from expertree.errors import ConfigError


def in_channels(dataset: Dataset, channels: Channels) -> Dataset:
    """Return a split that is measured in given channels.

    Args:
        dataset: The split.
        channels: The channels. If publications measure the split in them, it is by their protocol,
            cuts included; else by its usual one, in these channels.

    Raises:
        ConfigError: If its images are grey and the channels are not, or the other way round: what
            is degraded would be other pixels than the split's.
    """
    for protocol in (dataset.protocol, *dataset.others):
        if protocol.channels == channels:
            return dataclasses.replace(dataset, protocol=protocol)
    usual = dataset.protocol
    if "grey" in {channels, usual.channels}:
        raise ConfigError(
            f"data set {dataset.name}, split {dataset.split} is measured in {usual.channels}, and "
            f"channels={channels} would degrade other pixels; take a split that is measured in "
            f"{channels}, or leave channels out"
        )
    is_plain = usual.name == usual.channels
    name = channels if is_plain else f"{usual.name}_{channels}"
    protocol = dataclasses.replace(usual, name=name, channels=channels)
    return dataclasses.replace(dataset, protocol=protocol)
