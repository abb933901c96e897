import pytest
import torch
import torch.nn.functional as F

from expertree.degradation.captions import ALL_DEGREES, CLEAN_CAPTION, caption_of_kinds
from expertree.embedding import ClipConfig, ExtractorConfig, build_extractor
from expertree.embedding.heads import HEADS, TYPES, logit_scale, types_of

CAPTIONS = ["large rain", "thick haze", "large rain, thick haze", "large rain"]


@pytest.fixture(scope="module")
def tower():
    clip = ClipConfig(image_tower="test_resnet")
    return build_extractor(ExtractorConfig(clip=clip, embed_dim=16)).captions


def test_there_are_seven_types_and_every_degree_belongs_to_one():
    assert len(TYPES) == 7
    assert {kind for degree in ALL_DEGREES for kind in types_of(degree)} == set(TYPES)
    assert types_of("heavy low-light, small snow") == ["low-light", "snow"]


def test_a_clean_picture_has_no_type_and_a_pair_that_of_its_nouns():
    assert types_of(CLEAN_CAPTION) == []
    for kind in TYPES:
        assert types_of(kind) == [kind]
    assert types_of(caption_of_kinds(["low_light", "motion_blur"])) == ["low-light", "blur"]
    assert types_of(caption_of_kinds(["raindrop"])) == []
    assert types_of(caption_of_kinds(["raindrop", "haze"])) == ["haze"]
    assert types_of(caption_of_kinds(["lens_flare"])) == []
    assert types_of(caption_of_kinds(["defocus_blur", "camera_noise", "haze"])) == ["haze"]


def test_pictures_without_a_type_add_nothing_to_the_loss_and_count_in_its_mean(tower):
    embeddings = torch.randn(4, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = HEADS["type"].loss
    found = loss(embeddings, ["haze", CLEAN_CAPTION, "large rain", "raindrop"], tower)
    known = loss(embeddings[[0, 2]], ["haze", "large rain"], tower)
    torch.testing.assert_close(found, known / 2)
    (gradient,) = torch.autograd.grad(found, embeddings)
    assert not gradient[[1, 3]].any()
    assert gradient[[0, 2]].any(dim=1).all()


def test_a_batch_of_clean_pictures_moves_nothing_by_their_types(tower):
    embeddings = torch.randn(2, 16).requires_grad_()
    found = HEADS["type"].loss(embeddings, [CLEAN_CAPTION] * 2, tower)
    moved = [embeddings, *(own for own in tower.parameters() if own.requires_grad)]
    gradients = torch.autograd.grad(found, moved, allow_unused=True)
    assert found == 0.0
    assert not any(gradient.any() for gradient in gradients if gradient is not None)


def test_the_type_is_learnt_from_the_nouns_whatever_the_degree(tower):
    embeddings = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    loss = HEADS["type"].loss
    with torch.no_grad():
        found = loss(embeddings, CAPTIONS, tower)
        logits = logit_scale(tower) * F.normalize(embeddings, dim=1) @ tower(TYPES).T
        rain, haze = TYPES.index("rain"), TYPES.index("haze")
        shares = -logits.log_softmax(dim=1)
        pairs = [(rain,), (haze,), (rain, haze), (rain,)]
        expected = sum(row[list(of)].mean() for row, of in zip(shares, pairs, strict=True)) / 4
        torch.testing.assert_close(found, expected)
        other = ["small rain", "normal haze", "medium rain, normal haze", "large rain"]
        torch.testing.assert_close(loss(embeddings, other, tower), found)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_prefers_embeddings_at_their_own_captions(tower, head):
    with torch.no_grad():
        own = tower(TYPES if head == "type" else CAPTIONS)
        rows = [TYPES.index("rain"), TYPES.index("haze")] if head == "type" else [0, 1]
        captions = ["large rain", "thick haze"]
        right = HEADS[head].loss(own[rows], captions, tower)
        wrong = HEADS[head].loss(own[rows[::-1]], captions, tower)
    assert right < wrong


@pytest.mark.parametrize("head", sorted(HEADS))
def test_only_the_spherical_head_gives_embeddings_of_length_one(head):
    clip = ClipConfig(image_tower="test_resnet")
    config = ExtractorConfig(clip=clip, embed_dim=16, view_px=32, head=head)
    lengths = build_extractor(config, seed=1).embed(torch.rand(3, 3, 40, 40)).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(3)) == (head == "spherical")
