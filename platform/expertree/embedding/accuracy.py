"""Measure how well the extractor tells degrees of degradation apart (paper 000, table I)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from expertree.embedding.extractor import Extractor, Patches, embed_patches
from expertree.embedding.recipe import distinct


def degree_accuracy(
    extractor: Extractor,
    patches: Patches,
    captions: Sequence[str],
    *,
    candidates: Sequence[str] | None = None,
) -> float:
    """Return the share of patches whose nearest caption, by cosine, is their own.

    Args:
        extractor: An extractor that has its text tower.
        patches: Degraded patches.
        captions: The caption of each patch.
        candidates: Captions to choose from; by default the different ones among `captions`.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If the extractor has no text tower, there is not one caption for each patch, or
            there are no captions.
    """
    if extractor.captions is None:
        raise ValueError("the extractor was loaded without its text tower; load it with captions")
    if len(patches) != len(captions) or not captions:
        raise ValueError(f"{len(patches)} patches cannot be scored with {len(captions)} captions")
    choices = list(candidates) if candidates is not None else distinct(captions)[0]
    images = F.normalize(torch.from_numpy(embed_patches(extractor, patches)), dim=-1)
    with torch.no_grad():
        texts = extractor.captions.eval()(choices).cpu()
    nearest: list[str] = [choices[place] for place in (images @ texts.T).argmax(dim=1).tolist()]
    num_right = sum(a == b for a, b in zip(nearest, captions, strict=True))
    return num_right / len(captions)
