# SPDX-License-Identifier: Apache-2.0
"""Freed memory stays with a process that asks for it, in one that lets it, and nowhere else."""

import os
import platform
import subprocess
import sys

import pytest

# Two blocks of 64 MiB, one after the other: pages that are cleared anew are counted by the kernel.
PROGRAM = """
import resource
from cnnjax.host_memory import keep_freed_memory
told = keep_freed_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(64 * 2**20)
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(told, faults[-1] < 1000)
"""


def run(**environment):
    own = {
        k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=own | environment, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_pages_are_cleared_once_unless_switched_off_or_set_by_the_user():
    assert run() == ["True", "True"]
    assert run(CNNJAX_KEEP_MEMORY="0") == ["False", "False"]
    assert run(MALLOC_ARENA_MAX="2") == ["False", "False"]


def test_another_c_library_is_left_alone(monkeypatch):
    from cnnjax.host_memory import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory.__wrapped__() is False
