"""Read what people say is wrong with an image: names that a model knows, or words of their own.

Free text is read by comparing embeddings of its clauses with those of phrases for every degradation
that the model knows; the names that it means lead to an expert, by the guide. A network that takes
sentences (InstructIR, Conde et al. 2024) is told the words themselves.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32

from expertree.errors import OptionError
from expertree.experts import sentences
from expertree.experts.sentences import HASHING, Encode, hashed, load_encoder

ReadText: TypeAlias = Callable[[str, tuple[str, ...]], tuple[str, ...]]
"""Function from text and a model's names to the names that it means; `OptionError` if none."""

MIN_SIMILARITY = 0.5
"""Cosine similarity below which a clause names no degradation."""

PHRASES: dict[str, tuple[str, ...]] = {
    "noise": ("remove the noise", "make it less noisy", "the picture is grainy", "film grain"),
    "blur": ("make it sharper", "the photo is out of focus", "it is blurry"),
    "motion_blur": ("the camera shook", "remove the motion blur", "it is smeared by movement"),
    "low_light": ("make it brighter", "the photo is too dark", "it was taken at night"),
    "haze": ("remove the haze", "it is foggy and misty", "the view is hazy, clear it up"),
    "rain": ("remove the rain", "take the rain off", "there are rain drops and streaks"),
    "snow": ("remove the snow", "snowflakes are in the way", "it is snowing"),
    "jpeg": ("remove the compression artefacts", "it is blocky", "the JPEG was saved too small"),
}
"""Phrases that people use for a degradation; a name that is not listed stands for itself."""

_EMPTY_WORDS = (
    "a all an and any are as at away be but by can could do fix for from get give has have i image "
    "in is it its less like look make me more my of off on out photo photograph picture please "
    "remove rid shot so some take that the them there these they this those to too up very was "
    "were what with would you"
)
_EMPTY = frozenset(_EMPTY_WORDS.split())
"""Words that say nothing of what is wrong. An encoder that knows no meanings must not see them: it
would find "remove the person" as near to "remove the rain" as "take the rain off"."""

_WORDS = re.compile(r"[a-z0-9]+")
_JOINTS = re.compile(r"[\s_-]+")
_CLAUSES = re.compile(r"[,.;!?]|\band\b|\bbut\b|\bthen\b|\balso\b", re.IGNORECASE)


def make_reader(embed: Encode) -> ReadText:
    """Return a function that finds the degradations that free text names.

    Args:
        embed: A sentence embedding.
    """
    known: dict[tuple[str, ...], tuple[list[str], Any]] = {}

    def read(text: str, names: tuple[str, ...]) -> tuple[str, ...]:
        if names not in known:
            spoken = [(name, phrase) for name in names for phrase in _phrases(name)]
            known[names] = [name for name, _ in spoken], embed([phrase for _, phrase in spoken])
        owners, embedded = known[names]
        clauses = [part.strip() for part in _CLAUSES.split(text) if part.strip()]
        if not clauses:
            raise OptionError("The instruction says nothing.")
        found: dict[str, None] = {}
        for similarities in embed(clauses) @ embedded.T:
            best = int(similarities.argmax())
            if similarities[best] >= MIN_SIMILARITY:
                found[owners[best]] = None
        if not found:
            raise OptionError(f"{text[:80]!r} names nothing that this model was trained on.")
        return tuple(found)

    return read


@functools.lru_cache(maxsize=4)
def load_reader(model: str) -> ReadText:
    """Return a reader of free text that uses an encoder of sentences.

    Args:
        model: The encoder; see `experts.sentences.load_encoder`.

    Raises:
        ConfigError: If its package is not installed or it cannot be loaded.
    """
    return make_reader(_hashed_content if model == HASHING else load_encoder(model))


def read_instruction(
    text: str, names: tuple[str, ...], read_text: ReadText | None
) -> tuple[tuple[str, ...], str]:
    """Read an instruction: a model's names with commas between, free text, or both.

    Args:
        text: The instruction; capitals do not matter, nor whether hyphens, spaces or underscores
            join words.
        names: The model's names.
        read_text: Reader of free text; without one there must be names only.

    Returns:
        The names that are meant, each once; and the text where it is more than names, else nothing.

    Raises:
        OptionError: If free text cannot be read, or names nothing.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    by_spelling = {_spelling(name): name for name in names}
    free = [part for part in parts if _spelling(part) not in by_spelling]
    meant = dict.fromkeys(by_spelling[_spelling(part)] for part in parts if part not in free)
    if not free:
        return tuple(meant), ""
    if read_text is None:
        raise OptionError(
            f"unknown degradation {free[0][:80]!r}; this model knows {', '.join(names)}"
        )
    return tuple(meant | dict.fromkeys(read_text(", ".join(free), names))), text.strip()


def _spelling(name: str) -> str:
    return _JOINTS.sub("_", name.lower())


def _phrases(name: str) -> tuple[str, ...]:
    """Return phrases for a degradation; none for a degree, which sentences rarely tell apart."""
    if " " in name:
        return ()
    known = (*PHRASES.get(name, ()), *sentences.PHRASES.get(name, ()))
    return known or (name.replace("_", " "),)


def _hashed_content(texts: Sequence[str]) -> Float32[np.ndarray, "sentences 384"]:
    """Embed the words of sentences that say something, without weights."""
    kept = [[w for w in _WORDS.findall(text.lower()) if w not in _EMPTY] for text in texts]
    return hashed([" ".join(words) for words in kept])
