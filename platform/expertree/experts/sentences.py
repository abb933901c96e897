"""Sentences that say what is wrong with an image, and what a network receives of them.

InstructIR's training sentences are not published. These are made of openings and of phrases for
each degradation: 8 x 5 for training, and 5 x 2 in other words that no training sees, for tests.
"""

import functools
import itertools
import re
import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from expertree.errors import ConfigError

Encode: TypeAlias = Callable[[Sequence[str]], Float32[np.ndarray, "sentences dim"]]
"""Function from sentences to embeddings of length 1."""

HASHING = "hashing"
"""The encoder that needs no weights; any other is a model of sentence-transformers."""

HASHED_DIM = 384
"""Length of its embeddings, and of those of `TaylorAI/bge-micro-v2`, InstructIR's encoder."""

OPENINGS = (
    "{}",
    "{}, please",
    "please {}",
    "could you {}?",
    "i would like you to {}",
    "{} in this photo",
    "can you {} for me?",
    "this picture needs work: {}",
)
UNSEEN_OPENINGS = (
    "would you kindly {}",
    "{} if that is possible",
    "it would be great to {}",
    "try to {}",
    "just {} and leave the rest",
)
PHRASES: dict[str, tuple[str, ...]] = {
    "noise": (
        "remove the noise",
        "get rid of the grain",
        "denoise it",
        "take out the sensor noise",
        "clean up the speckles",
    ),
    "blur": (
        "remove the blur",
        "make it sharper",
        "bring it into focus",
        "deblur the image",
        "fix the soft, unsharp details",
    ),
    "motion_blur": (
        "remove the motion blur",
        "undo the camera shake",
        "sharpen what is smeared by movement",
        "fix the shaky shot",
        "deblur the moving objects",
    ),
    "rain": (
        "remove the rain",
        "take the rain streaks away",
        "derain the image",
        "make it look as if it did not rain",
        "get rid of the rain drops",
    ),
    "snow": (
        "remove the snow",
        "take the snowflakes away",
        "desnow the image",
        "make it look as if it did not snow",
        "get rid of the falling flakes",
    ),
    "haze": (
        "remove the haze",
        "clear the fog",
        "dehaze the image",
        "take the mist away",
        "bring back the contrast that the fog took",
    ),
    "low_light": (
        "brighten it",
        "fix the low light",
        "lighten the dark image",
        "make the night shot visible",
        "raise the exposure of the underexposed shot",
    ),
    "jpeg": (
        "remove the compression artefacts",
        "fix the jpeg blocks",
        "take the blockiness away",
        "repair the strongly compressed file",
        "get rid of the ringing from compression",
    ),
}
UNSEEN_PHRASES: dict[str, tuple[str, ...]] = {
    "noise": ("smooth the grainy, noisy texture", "filter away random noisy dots"),
    "blur": ("turn this blurry view crisp and sharp", "recover out of focus details"),
    "motion_blur": ("correct blurred movement", "stabilise what camera motion smeared"),
    "rain": ("erase all rainy streaks", "give me dry weather instead of rain"),
    "snow": ("erase all snowy spots", "give me clear weather instead of snow"),
    "haze": ("see through this hazy air", "cut through fog and smog"),
    "low_light": ("add light to these dark shadows", "it is too dark, so brighten the scene"),
    "jpeg": ("undo jpeg compression damage", "smooth blocky compressed squares"),
}

_WORDS = re.compile(r"[a-z0-9]+")


def sentences_for(tasks: Sequence[str], *, unseen: bool = False) -> list[str]:
    """Return all sentences for some degradations together.

    Args:
        tasks: Names of degradations; one that has no phrases stands for itself.
        unseen: Whether to use the words that no training sees.
    """
    openings = UNSEEN_OPENINGS if unseen else OPENINGS
    own = [_phrases(task, UNSEEN_PHRASES if unseen else PHRASES) for task in tasks]
    clauses = [" and ".join(chosen) for chosen in itertools.product(*own)]
    return [opening.format(clause) for opening in openings for clause in clauses]


def sentence_of(tasks: Sequence[str]) -> str:
    """Return the plainest sentence for some degradations together."""
    return OPENINGS[0].format(" and ".join(_phrases(task, PHRASES)[0] for task in tasks))


def drawn_sentence(tasks: Sequence[str], rng: np.random.Generator) -> str:
    """Draw a training sentence for some degradations together; for none, one that asks nothing."""
    clauses = [str(rng.choice(_phrases(task, PHRASES))) for task in tasks]
    clause = " and ".join(clauses) or "leave it as it is"
    return str(rng.choice(OPENINGS)).format(clause)


def prototype(encoder: str, task: str) -> Float32[np.ndarray, " dim"]:
    """Return the mean embedding of all training sentences for one degradation, of length 1.

    Raises:
        ConfigError: If the encoder cannot be loaded.
    """
    mean = load_encoder(encoder)(sentences_for((task,))).mean(axis=0)
    scaled: Float32[np.ndarray, " dim"] = mean / max(float(np.linalg.norm(mean)), 1e-6)
    return scaled


def _phrases(task: str, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return known.get(task, (f"remove the {task.replace('_', ' ')}",))


@functools.lru_cache(maxsize=4)
def load_encoder(model: str) -> Encode:
    """Return an encoder of sentences.

    Args:
        model: `hashing`, or the folder or name of a model of sentence-transformers, for example
            `TaylorAI/bge-micro-v2`.

    Raises:
        ConfigError: If the package is not installed or the model cannot be loaded.
    """
    if model == HASHING:
        return hashed
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            f"sentences for {model} need sentence-transformers; install expertree[text]"
        ) from error
    try:
        encoder = SentenceTransformer(model, device="cpu")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the model {model} cannot be loaded: {error}") from error

    def encode(sentences: Sequence[str]) -> Float32[np.ndarray, "sentences dim"]:
        found = encoder.encode(list(sentences), normalize_embeddings=True)
        return np.asarray(found, dtype=np.float32)

    return encode


def hashed(sentences: Sequence[str]) -> Float32[np.ndarray, "sentences 384"]:
    """Embed sentences without weights: words and their triples of letters, signed and summed.

    Each feature adds 1 or -1 at a place, both by its checksum (Weinberger et al. 2009); the sum is
    scaled to length 1. Sentences are near each other that share words, or parts of words.
    """
    found = np.zeros((len(sentences), HASHED_DIM), dtype=np.float32)
    for row, sentence in enumerate(sentences):
        for word in _WORDS.findall(sentence.lower()):
            inside = f"<{word}>"
            triples = [inside[n : n + 3] for n in range(len(inside) - 2)]
            for feature in (word, *triples):
                code = zlib.crc32(feature.encode())
                found[row, (code >> 1) % HASHED_DIM] += 1.0 if code & 1 else -1.0
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    scaled: Float32[np.ndarray, "sentences 384"] = found / np.maximum(lengths, 1e-6)
    return scaled
