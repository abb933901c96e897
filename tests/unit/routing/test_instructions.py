"""Free text as an instruction, with an embedding that counts letters in place of a model."""

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from expertree.degradation.registry import DEFAULT_TASKS, REGISTRY
from expertree.errors import ConfigError, OptionError
from expertree.experts.sentences import HASHING, sentences_for
from expertree.routing.instructions import PHRASES, load_reader, make_reader, read_instruction

NAMES = ("haze", "noise", "rain", "medium noise", "smudge")


def embed(sentences: Sequence[str]) -> np.ndarray:
    """Which words there are, each at a place of its own."""
    words = sorted({word for own in [*ALL, *SPOKEN] for word in own.lower().split()})
    rows = np.array([[word in own.lower().split() for word in words] for own in sentences])
    rows = rows.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


ALL = ["smudge", *(name.replace("_", " ") for name in REGISTRY)]
SPOKEN = {phrase: name for name, phrases in PHRASES.items() for phrase in phrases}


def test_there_are_words_for_what_models_are_trained_on_and_for_nothing_unknown() -> None:
    assert set(DEFAULT_TASKS) <= set(PHRASES) <= set(REGISTRY)
    assert len(SPOKEN) == sum(len(phrases) for phrases in PHRASES.values())  # none stands twice


@pytest.mark.parametrize(("phrase", "name"), SPOKEN.items())
def test_each_phrase_names_its_degradation_among_all_of_them(phrase: str, name: str) -> None:
    assert make_reader(embed)(phrase.split(",", maxsplit=1)[0], tuple(REGISTRY)) == (name,)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("take the rain off and make it less noisy", ("rain", "noise")),
        ("Remove the haze.", ("haze",)),
        ("remove the rain, take the rain off", ("rain",)),
        ("smudge", ("smudge",)),
        ("please call my mother; remove the noise", ("noise",)),
    ],
)
def test_each_clause_names_what_it_is_nearest_to(text: str, names: tuple[str, ...]) -> None:
    assert make_reader(embed)(text, NAMES) == names


@pytest.mark.parametrize("text", ["call my mother", ", and ;", ""])
def test_words_that_name_nothing_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        make_reader(embed)(text, NAMES)


@pytest.mark.parametrize("unseen", [False, True])
def test_the_encoder_without_weights_reads_no_wrong_name_into_sentences(*, unseen: bool) -> None:
    read, names, num_read = load_reader(HASHING), DEFAULT_TASKS, 0
    for task in names:
        for sentence in sentences_for((task,), unseen=unseen):
            try:
                found = read(sentence, names)
            except OptionError:
                continue
            assert found == (task,), sentence
            num_read += 1
    asked = sum(len(sentences_for((task,), unseen=unseen)) for task in names)
    assert num_read >= (0.3 if unseen else 1.0) * asked


@pytest.mark.parametrize("text", ["remove the person", "make it better", "fix it please"])
def test_words_that_every_wish_has_name_nothing_to_it(text: str) -> None:
    with pytest.raises(OptionError):
        load_reader(HASHING)(text, DEFAULT_TASKS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rain, noise", (("rain", "noise"), "")),
        ("noise,noise", (("noise",), "")),
        ("haze, take the rain off", (("haze", "rain"), "haze, take the rain off")),
        (" take the rain off ", (("rain",), "take the rain off")),
    ],
)
def test_an_instruction_is_names_or_words_or_both(
    text: str, expected: tuple[tuple[str, ...], str]
) -> None:
    assert read_instruction(text, NAMES, make_reader(embed)) == expected


def test_without_a_reader_an_instruction_is_names() -> None:
    assert read_instruction("rain, haze", NAMES, None) == (("rain", "haze"), "")
    with pytest.raises(OptionError, match="unknown degradation 'fog'; this model knows haze"):
        read_instruction("rain, fog", NAMES, None)


def test_without_the_extra_a_text_model_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"expertree\[text\]"):
        load_reader("some/model")


@pytest.mark.parametrize("text", ["low_light", "Low-Light", "low light", "low  light"])
def test_names_are_known_however_their_words_are_joined(text: str) -> None:
    names = ("low_light", "heavy low-light")
    assert read_instruction(text, names, None) == (("low_light",), "")
    assert read_instruction(f"heavy {text}", names, None) == (("heavy low-light",), "")
