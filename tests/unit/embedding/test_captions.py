import torch

from expertree.degradation.captions import ALL_DEGREES
from expertree.embedding import ClipConfig, ExtractorConfig, build_extractor
from expertree.embedding.captions import DEGREE_WORDS, WordTokenizer


def test_every_degree_caption_is_made_of_known_words():
    tokens = WordTokenizer(DEGREE_WORDS, 16)(ALL_DEGREES)
    assert not (tokens == 1).any()
    assert len({tuple(row) for row in tokens.tolist()}) == len(ALL_DEGREES)


def test_a_caption_ends_with_the_largest_number_also_when_it_is_cut():
    tokenizer = WordTokenizer(("a", "b"), 4)
    assert tokenizer(["b, A", "a a a a a", "", "c"]).tolist() == [
        [3, 2, 4, 0],
        [2, 2, 2, 4],
        [4, 0, 0, 0],
        [1, 4, 0, 0],
    ]
    assert tokenizer.vocab_size == 5


def test_a_caption_of_all_six_mixable_degradations_fits_the_default_length():
    config = ClipConfig()
    longest = ", ".join(sorted(ALL_DEGREES, key=lambda degree: -len(degree.split()))[:6])
    tokens = WordTokenizer(config.words, config.text_length)([longest])
    assert (tokens == WordTokenizer(config.words, 2 * config.text_length)([longest])[:, :16]).all()


def test_caption_embeddings_have_length_one_and_do_not_depend_on_their_company():
    tower = build_extractor(ExtractorConfig(clip=ClipConfig(image_tower="test_resnet"))).captions
    assert tower is not None
    with torch.no_grad():
        alone, together = tower(["thick haze"]), tower(["large rain, thick haze", "thick haze"])
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(alone[0], together[1])
    assert not torch.allclose(together[0], together[1])
