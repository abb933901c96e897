"""Labels kept once are the labels of the samples, one by one."""

from collections import Counter

import numpy as np
import pytest

from expertree.hierarchy import Labels

WORDS = np.random.default_rng(0).choice(["noise", "rain", "haze", "mixed"], 200).tolist()


def test_labels_are_a_sequence_of_what_each_sample_has() -> None:
    labels = Labels.of(WORDS)
    assert list(labels) == WORDS
    assert labels[3] == WORDS[3]
    assert list(labels[5:9]) == WORDS[5:9]
    assert len(labels.values) == 4
    assert Labels.of(labels) is labels


def test_changed_labels_that_become_alike_are_one() -> None:
    changed = Labels.of(WORDS).map(lambda word: word[0] == "h")
    assert list(changed) == [word[0] == "h" for word in WORDS]
    assert sorted(changed.values) == [False, True]


def test_joined_labels_follow_one_another() -> None:
    joined = Labels.join([Labels.of(WORDS[:50]), Labels.of(WORDS[50:])])
    assert list(joined) == WORDS
    assert len(joined.values) == 4


def test_counts_are_those_of_a_counter() -> None:
    groups = np.random.default_rng(1).integers(0, 3, 200)
    labels = Labels.of(WORDS)
    counts = labels.counts(groups, 4)
    expected = Counter(zip(groups.tolist(), WORDS, strict=True))
    for group in range(4):
        for place, word in enumerate(labels.values):
            assert counts[group, place] == expected[group, word]
    with pytest.raises(ValueError, match="199 samples in groups, but 200 labels"):
        labels.counts(groups[:-1], 4)
