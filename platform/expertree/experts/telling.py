"""Tells networks what they want to know of images: what is seen in them, and what is said."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from expertree.experts.backbones import BackboneConfig
from expertree.experts.choices import run_network
from expertree.experts.conditions import NOTHING, Condition, Look
from expertree.experts.sentences import drawn_sentence, load_encoder, sentence_of

_SALT = 0x5A1D
"""Tells the seeds of sentences from those of crops."""


def tell(
    config: BackboneConfig,
    images: Float[Tensor, "b 3 h w"],
    *,
    look: Look | None,
    tasks: Sequence[str] = (),
    words: str = "",
) -> Condition:
    """Return what a network is told of whole images.

    Args:
        config: The network; most are told nothing.
        images: RGB in [0, 1].
        look: What finds it in the images; None tells what is said only.
        tasks: What is wrong with all of them, by name, where somebody says so.
        words: The same in words, which are said in place of a sentence made of the names.
    """
    found = look(images, config.seen) if look is not None and config.seen else NOTHING
    said = {
        name: value.to(images.device).expand(len(images), *value.shape[1:])
        for name, value in _encoded(config, tasks, words).items()
    }
    return {**found, **said}


def saying(
    config: BackboneConfig, *, seed: int
) -> Callable[[Sequence[tuple[str, ...]], Sequence[int]], Condition]:
    """Return the function that says to a network in training what is wrong with its samples.

    The sentence for a sample depends on the seed and on its position in the training alone.

    Args:
        config: The network; one that takes no sentences is told nothing.
        seed: The training's seed.

    Raises:
        ConfigError: If the network's encoder cannot be loaded.
    """
    if config.sentence_encoder is None:
        return lambda _tasks, _positions: NOTHING
    encode = load_encoder(config.sentence_encoder)

    def say(tasks: Sequence[tuple[str, ...]], positions: Sequence[int]) -> Condition:
        if not tasks:
            return NOTHING
        chosen = [
            drawn_sentence(own, np.random.default_rng([seed, _SALT, position]))
            for own, position in zip(tasks, positions, strict=True)
        ]
        return {"sentence": torch.from_numpy(encode(chosen))}

    return say


def _encoded(config: BackboneConfig, tasks: Sequence[str], words: str) -> Condition:
    """Return what a network is told when somebody says what is wrong with one image."""
    if config.sentence_encoder is None or not (tasks or words):
        return NOTHING
    (vector,) = load_encoder(config.sentence_encoder)([words or sentence_of(tasks)])
    return {"sentence": torch.from_numpy(vector)[None]}


class Told(nn.Module):
    """A network that is told of the images that go through it, to be called with images alone.

    Attributes:
        network: The network.
    """

    def __init__(self, network: nn.Module, config: BackboneConfig, look: Look | None) -> None:
        super().__init__()
        self.network, self._config, self._look = network, config, look

    def forward(
        self, images: Float[Tensor, "b 3 h w"], tasks: Sequence[str] = ()
    ) -> Float[Tensor, "b 3 h w"]:
        """Restore whole images of one size; `tasks` is what somebody says is wrong with them."""
        condition = tell(self._config, images, look=self._look, tasks=tasks)
        restored: Tensor = self.network(images, condition) if condition else self.network(images)
        return restored

    def run(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b layers experts"] | None]:
        """Restore whole images, and return what the network's layers chose, if they choose."""
        return run_network(self.network, images, tell(self._config, images, look=self._look))
