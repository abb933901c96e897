"""Errors that say that memory did not suffice are told from others."""

import pytest

from expertree.experts.shortage import free_cached_memory, is_out_of_memory
from scarce import KINDS, run_out_of_memory


@pytest.mark.parametrize("kind", KINDS)
def test_each_device_has_its_own_way_to_say_it(kind: str) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        run_out_of_memory(kind)
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    "words", ["CUDA error: out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"]
)
def test_cuda_itself_says_it_in_words(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError(3)]
)
def test_other_errors_are_others(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_without_a_gpu_nothing_is_kept_and_nothing_happens() -> None:
    free_cached_memory()
