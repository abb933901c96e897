"""The degradation extractor, which turns an image into an embedding of how it is degraded.

`extractor.py` is the network that everything downstream calls, `training.py` teaches it with
captions, `artefact.py` stores it, `accuracy.py` measures it. A new view of the image is one
function in `views.py`, a new CLIP model one in `clip.py`.
"""

from expertree.embedding.accuracy import degree_accuracy
from expertree.embedding.artefact import (
    extractor_hash,
    is_extractor_hash,
    load_extractor,
    save_extractor,
    stored_extractor_config,
    stored_extractor_hash,
)
from expertree.embedding.captions import CaptionTower
from expertree.embedding.clip import ClipConfig
from expertree.embedding.extractor import (
    Extractor,
    ExtractorConfig,
    Patches,
    build_extractor,
    embed_patches,
)
from expertree.embedding.looking import look
from expertree.embedding.recipe import ExtractorRecipe
from expertree.embedding.training import train_extractor

__all__ = [
    "CaptionTower",
    "ClipConfig",
    "Extractor",
    "ExtractorConfig",
    "ExtractorRecipe",
    "Patches",
    "build_extractor",
    "degree_accuracy",
    "embed_patches",
    "extractor_hash",
    "is_extractor_hash",
    "load_extractor",
    "look",
    "save_extractor",
    "stored_extractor_config",
    "stored_extractor_hash",
    "train_extractor",
]
