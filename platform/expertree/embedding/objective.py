"""The losses of extractor training, on embeddings of images and of captions."""

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
    """Return CLIP's symmetric loss, with equal captions as one caption instead of as negatives.

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


def spherical_loss(
    images: Float[Tensor, "images dim"],
    centres: Float[Tensor, "centres dim"],
    centre_of: Int64[Tensor, " images"],
    scale: Float[Tensor, ""],
    *,
    margin: float,
) -> Float[Tensor, ""]:
    """Return the sum of SLER-IR's losses on the unit sphere (paper 004, section 3.3).

    Images are classified by their nearest centre; the triplet-constrained contrastive loss
    max(E_N[S] - E_P[S] + margin, 0) compares the mean cosine of pairs of different classes with
    that of pairs of one class (equation 9); and centres are driven apart until they are at right
    angles (the paper asks for a low pairwise cosine and gives no formula).

    Args:
        images: Image embeddings of length 1.
        centres: A centre of length 1 for each class in the batch.
        centre_of: For each image the row of its class.
        scale: Factor on the cosines in the classification.
        margin: Lambda, the margin of the contrastive loss.
    """
    classified = F.cross_entropy(scale * images @ centres.T, centre_of)
    alike = centre_of[:, None] == centre_of[None, :]
    others = ~torch.eye(len(images), dtype=torch.bool, device=images.device)
    similarity = images @ images.T
    contrast = torch.zeros_like(classified)
    if (alike & others).any() and not alike.all():
        gap = similarity[~alike].mean() - similarity[alike & others].mean()
        contrast = F.relu(gap + margin)
    return classified + contrast + _crowding(centres)


def type_loss(
    images: Float[Tensor, "images dim"],
    types: Float[Tensor, "types dim"],
    shares: Float[Tensor, "images types"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return LoRA-IR's cross-entropy on the type of degradation (paper 002, section 3.2).

    It is the mean over all images, to which those without a type add nothing.

    Args:
        images: Image embeddings, any length.
        types: An embedding of length 1 for each type.
        shares: Share of each type in each image, in sum 1: a mixture belongs to all of its parts.
            Zeros for an image without a type.
        scale: Factor on the cosines.
    """
    return F.cross_entropy(scale * F.normalize(images, dim=-1) @ types.T, shares)


def _crowding(centres: Float[Tensor, "centres dim"]) -> Float[Tensor, ""]:
    """Return the mean square of the positive cosines between different centres."""
    count = len(centres)
    near = F.relu(centres @ centres.T).square()
    return (near.sum() - near.diagonal().sum()) / max(count * (count - 1), 1)
