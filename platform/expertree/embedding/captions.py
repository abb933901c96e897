"""The text tower, which embeds degree captions; training and naming need it, routing does not."""

import re
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from expertree.degradation.captions import ALL_DEGREES

Tokenizer = Callable[[Sequence[str]], Int64[Tensor, "captions length"]]

_PAD, _UNKNOWN, _FIRST = 0, 1, 2


def _split(caption: str) -> list[str]:
    return re.findall(r"[a-z0-9-]+", caption.lower())


def words_of(captions: Iterable[str]) -> tuple[str, ...]:
    """Return the different words of some captions, sorted."""
    return tuple(sorted({word for caption in captions for word in _split(caption)}))


DEGREE_WORDS = words_of(ALL_DEGREES)
"""The vocabulary of the small text tower: two dozen words instead of CLIP's 49,408 tokens, whose
table would be larger than both towers."""


class WordTokenizer:
    """A tokenizer that turns captions into numbers by a fixed list of words.

    0 is padding, 1 is any unknown word, then come the words. The last number ends a caption: it is
    the largest, which is how a CLIP text tower finds the place to read its output.
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        self._index_of = {word: _FIRST + place for place, word in enumerate(words)}
        self._end = _FIRST + len(words)
        self._length = length

    @property
    def vocab_size(self) -> int:
        """The number of different token numbers."""
        return self._end + 1

    def __call__(self, captions: Sequence[str]) -> Int64[Tensor, "captions length"]:
        """Return the numbers of each caption, int64 [captions, length]; longer ones are cut."""
        tokens = torch.full((len(captions), self._length), _PAD)
        for row, caption in enumerate(captions):
            known = [self._index_of.get(word, _UNKNOWN) for word in _split(caption)]
            numbers = [*known[: self._length - 1], self._end]
            tokens[row, : len(numbers)] = torch.tensor(numbers)
        return tokens


class CaptionTower(nn.Module):
    """A CLIP text tower with its tokenizer.

    Attributes:
        text: The tower: token numbers to features.
        tokenizer: Captions to token numbers.
        logit_scale: Logarithm of the factor on cosines in the loss; trained with the tower.
    """

    def __init__(self, text: nn.Module, tokenizer: Tokenizer, logit_scale: nn.Parameter) -> None:
        super().__init__()
        self.text = text
        self.tokenizer = tokenizer
        self.logit_scale = logit_scale

    def forward(self, captions: Sequence[str]) -> Float[Tensor, "captions dim"]:
        """Return embeddings of captions, float32 [captions, embed_dim], of length 1."""
        device = self.logit_scale.device
        features: Tensor = self.text(self.tokenizer(captions).to(device))
        return F.normalize(features.float(), dim=-1)
