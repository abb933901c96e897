"""Caption clean images with BLIP, from weights that are on this machine."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from transformers import BlipForConditionalGeneration, BlipProcessor

from expertree.errors import ConfigError

_MOST_TOKENS = 20


def caption_images(
    folder: str, batches: Iterator[UInt8[Tensor, "b 3 h w"]], *, device: str = "cpu"
) -> list[str]:
    """Caption what images show; the same images give the same captions.

    Args:
        folder: Path of the model and its processor, as transformers saves them. Nothing is
            downloaded.
        batches: The images, RGB.
        device: Device that BLIP runs on.

    Returns:
        A caption for each image, in order.

    Raises:
        ConfigError: If the folder holds no BLIP model.
    """
    try:
        # The types of transformers know neither the processor nor the model that comes back.
        processor: Any = BlipProcessor.from_pretrained(folder, local_files_only=True)
        model: Any = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"content_captions: '{folder}' holds no BLIP model: {error}") from error
    model = model.eval().to(device)
    captions: list[str] = []
    for batch in batches:
        inputs = processor(images=list(batch), return_tensors="pt").to(device)
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=_MOST_TOKENS, do_sample=False)
        captions += processor.batch_decode(tokens, skip_special_tokens=True)
    return [" ".join(caption.split()) for caption in captions]
