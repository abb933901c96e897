"""The contrastive loss in its multi-positive form."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def multi_positive_loss(
    images: Float[Tensor, "images dim"],
    captions: Float[Tensor, "captions dim"],
    caption_of: Int64[Tensor, " images"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """CLIP's symmetric loss where equal captions are one caption, not each other's negatives.

    Plain InfoNCE on a few dozen captions counts duplicates as negatives and cannot fall below
    ln(batch / captions) (METHOD section 2). Here an image is matched against the batch's different
    captions, and a caption against the images, its target spread evenly over all that carry it;
    captions weigh as much as the images they have.

    Args:
        images: Image embeddings, any length.
        captions: Embeddings of the batch's different captions, of length 1.
        caption_of: For each image the row of its caption; every row occurs.
        scale: Factor on the cosines.
    """
    logits = scale * F.normalize(images, dim=-1) @ captions.T
    to_caption = F.cross_entropy(logits, caption_of)
    member = F.one_hot(caption_of, len(captions)).to(logits.dtype).T
    share = member.sum(dim=1, keepdim=True)
    per_caption = -(member / share * F.log_softmax(logits.T, dim=1)).sum(dim=1)
    to_image = torch.sum(per_caption * share.squeeze(1)) / len(images)
    return (to_caption + to_image) / 2
