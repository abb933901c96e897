"""Read instructions in free text, by comparing sentence embeddings with known phrases.

InstructIR (Conde et al. 2024) feeds the embedding of such a sentence to its network. Here the
sentence only names degradations, and the guide does the rest: each clause is compared with phrases
for every degradation that the model knows.
"""

import re
from typing import Any

from expertree.errors import OptionError
from expertree.experts.sentences import Encode, load_encoder
from expertree.serving.http.options import ReadText

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


def load_reader(model: str) -> ReadText:
    """Return a reader of free text that uses a model of sentence-transformers.

    Args:
        model: Folder or name, for example `TaylorAI/bge-micro-v2`, InstructIR's.

    Raises:
        ConfigError: If the package is not installed or the model cannot be loaded.
    """
    return make_reader(load_encoder(model))


def _phrases(name: str) -> tuple[str, ...]:
    """Return phrases for a degradation; none for a degree, which sentences rarely tell apart."""
    return () if " " in name else PHRASES.get(name, (name.replace("_", " "),))
