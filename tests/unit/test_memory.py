"""Memory is kept for the next step, and a lack of it is told from other errors."""

import platform
import subprocess
import sys

import pytest

from expertree import memory
from expertree.memory import free_cached_memory, is_out_of_memory
from scarce import KINDS, run_out_of_memory

PROGRAM = """
import resource, runpy, sys
import numpy as np
if len(sys.argv) > 1:
    assert runpy.run_path(sys.argv[1])["keep_freed_memory"]()
def step():
    return [np.ones(500_000) for _ in range(8)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments):
    program = [sys.executable, "-c", PROGRAM, *arguments]
    return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_page_faults_of_a_step_all_but_vanish():
    assert faults(memory.__file__) < 0.1 * faults()


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


GIVEN_BACK = """
import runpy, sys
import numpy as np
memory = runpy.run_path(sys.argv[1])
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
assert memory["keep_freed_memory"]()
blocks = [np.ones(1 << 17) for _ in range(200)]
del blocks
before = held()
assert memory["return_freed_memory"]()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_freed_memory_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK, memory.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > 100  # of 200 MiB
