"""What the benchmarks of serving read out of answers."""

from email.message import Message

import numpy as np
import pytest

from expertree.benchmarks.client import Answer
from expertree.benchmarks.load import _Case, _hash, _nonsense, _problem
from expertree.benchmarks.serve import _stages
from expertree.images.io import encode_png


def answer(status: int, model: str | None = None, body: bytes = b"") -> Answer:
    headers = Message()
    if model is not None:
        headers["X-Restore-Model"] = model
    return Answer(status=status, headers=headers, body=body)


def test_stages_are_read_from_the_timing_of_an_answer() -> None:
    found = _stages("decode;dur=1.5, queue;dur=20, route;dur=0.25")
    assert found == {"decode": 0.0015, "queue": 0.02, "route": 0.00025}


@pytest.mark.parametrize(
    ("status", "model", "seed", "problem"),
    [
        (200, "a", 1, None),
        (200, "b", 2, None),
        (200, "b", 1, "another image than Restorer's, by model b"),
        (200, None, 1, "another image"),
        (500, None, 1, "500: "),
    ],
)
def test_an_image_is_right_only_if_it_is_that_of_the_model_that_says_it_made_it(
    status: int, model: str | None, seed: int, problem: str | None
) -> None:
    images = {n: np.full((2, 3, 3), n, dtype=np.uint8) for n in (1, 2)}
    case = _Case(path="/", body=b"", hashes={"a": _hash(images[1]), "b": _hash(images[2])})
    found = _problem(case, answer(status, model, encode_png(images[seed])))
    assert (found is None) if problem is None else (found is not None and problem in found)


def test_nonsense_must_be_refused_as_the_callers_fault() -> None:
    for case in _nonsense():
        assert _problem(case, answer(422)) is None
        assert _problem(case, answer(200)) is not None
        assert _problem(case, answer(500)) is not None
