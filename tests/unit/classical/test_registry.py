"""Every degradation has its methods, and several degradations are undone in the right order."""

import time

import numpy as np
import pytest

from expertree.classical import (
    AS_IT_IS,
    REGISTRY,
    Method,
    candidates_for,
    methods_of,
    restore_classically,
)
from expertree.degradation import registry as degradations


def test_there_are_methods_for_every_degradation_that_there_is() -> None:
    assert list(REGISTRY) == list(degradations.REGISTRY)
    for task in REGISTRY:
        names = [method.name for method in methods_of(task)]
        assert len(names) == len(set(names)) >= 3
        assert names[-1] == AS_IT_IS.name


@pytest.mark.parametrize("task", list(REGISTRY))
@pytest.mark.parametrize("shape", [(128, 128, 3), (37, 51, 3), (16, 16, 3)])
def test_every_method_gives_an_image_like_the_one_it_got_and_leaves_that_alone(
    task: str, shape: tuple[int, int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    for method in methods_of(task):
        restored = method.restore(image)
        assert (restored.shape, restored.dtype) == (shape, np.uint8)
        assert np.array_equal(method.restore(image), restored)
    assert np.array_equal(image, before)


def test_a_method_takes_few_milliseconds_a_patch() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    for methods in REGISTRY.values():
        for method in methods:
            times = []
            for _ in range(3):
                begin = time.perf_counter()
                method.restore(image)
                times.append(time.perf_counter() - begin)
            # 10 ms are meant; what else the machine does is allowed for.
            assert min(times) < 0.05, method.name


def test_several_degradations_are_undone_in_reverse_and_none_is_left_as_it_is() -> None:
    chosen = {
        "noise": Method(name="halve", restore=lambda image: image // 2),
        "haze": Method(name="add", restore=lambda image: image + 10),
    }
    image = np.full((2, 2, 3), 20, dtype=np.uint8)
    assert restore_classically(image, ("noise", "haze"), chosen)[0, 0, 0] == (20 + 10) // 2
    assert restore_classically(image, ("haze", "noise"), chosen)[0, 0, 0] == 20 // 2 + 10
    assert restore_classically(image, (), chosen) is image


def test_public_sets_have_every_method_of_a_task_and_of_several_one_after_the_other() -> None:
    names = [method.name for method in candidates_for(("low_light",))]
    assert names[: len(REGISTRY["low_light"])] == [m.name for m in REGISTRY["low_light"]]
    assert "one gamma (exponent 0.3)" in names
    assert AS_IT_IS.name not in names
    both = candidates_for(("low_light", "haze"))
    assert len(both) == len(REGISTRY["haze"])
    first, second = REGISTRY["low_light"][1], REGISTRY["haze"][1]
    assert both[1].name == f"{second.name} then {first.name}"
    image = np.random.default_rng(0).integers(0, 120, (40, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(both[1].restore(image), first.restore(second.restore(image)))
