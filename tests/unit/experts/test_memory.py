"""Steps that free and allocate the same memory do not ask the kernel for it each time."""

import platform
import subprocess
import sys

import pytest

from expertree.experts import memory

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
