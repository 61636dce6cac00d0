# SPDX-License-Identifier: Apache-2.0
"""Freed memory stays with a process that asks for it, in one that lets it, and nowhere else."""

import contextlib
import gc
import os
import platform
import subprocess
import sys

import pytest

from cnnjax import host_memory

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


def run(program=PROGRAM, **environment):
    own = {
        k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=own | environment, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_pages_are_cleared_once_unless_switched_off_or_set_by_the_user():
    assert run() == ["True", "True"]
    assert run(CNNJAX_KEEP_MEMORY="0") == ["False", "False"]
    assert run(MALLOC_ARENA_MAX="2") == ["False", "False"]


# Every other one of 4,096 blocks is freed, so none of what is free lies at the end of the heap.
FREED = """
from pathlib import Path
from cnnjax import memory
from cnnjax.host_memory import keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
assert keep_freed_memory()
before = memory.free_bytes(), resident()
blocks = [bytearray(b"1" * 2**16) for _ in range(4096)]
full = resident()
del blocks[::2]
kept = resident()
memory.free_bytes()
print((full - before[1]) >> 20, (full - kept) >> 20, (full - resident()) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_what_was_freed_is_free_when_it_is_asked_how_much_is():
    taken, given_at_once, given_when_asked = map(int, run(FREED))
    assert taken >= 200 and given_at_once < 10 and given_when_asked > 110  # MiB


# A "compilation" that leaves 20,000 gaps of 2 KiB between blocks that stay; then what a step might ask for: as much as
# fits in one of them. Three times over, each in what the one before it left.
COMPILED = """
import ctypes
from pathlib import Path
from cnnjax.host_memory import compiling, keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def in_use(name):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if name in line)
assert keep_freed_memory()
told = []
for _ in range(3):
    with compiling():
        blocks = [libc.malloc(2048) for _ in range(40_000)]
        for block in blocks[::2]:
            libc.free(block)
    block = libc.malloc(2040)
    told.append(block > max(blocks))
    libc.free(block)
    for block in blocks[1::2]:
        libc.free(block)
    told.append(in_use("VmSize"))
print(*told[::2], told[5] - told[1] < 20_000)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_gaps_that_a_compilation_leaves_are_closed_until_the_next():
    assert run(COMPILED) == ["True", "True", "True", "True"]
    assert run(COMPILED.replace("with compiling():", "if True:"))[0] == "False"


# Calls of a program that needs 128 MiB: each takes them in one block, and something small comes to lie behind it, and,
# when it has been given back, in its place, so that the next call has to take another. With "called()" and without.
CALLS = """
import ctypes
from pathlib import Path
from types import SimpleNamespace
import jax
from cnnjax.host_memory import StepMemory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def program(size):
    analysis = SimpleNamespace(temp_size_in_bytes=size // jax.local_device_count())
    return StepMemory(analysis)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
memory, before, trimmed = program(2**27), resident(), 0
for _ in range(6):
    block = libc.malloc(2**27)
    ctypes.memset(block, 1, 2**27)
    libc.malloc(2**21)
    libc.free(block)
    libc.malloc(2**21)
    full = resident()
    memory.called()
    trimmed += resident() < full - 2**26
print(memory.calls_ahead, program(2**20).calls_ahead, round((resident() - before) / 2**27), trimmed)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_program_that_needs_much_is_called_once_at_a_time_and_leaves_little():
    assert run(CALLS) == ["0", "1", "1", "1"]  # one block, because once what was free was given back
    assert run(CALLS.replace("memory.called()", "pass")) == ["0", "1", "2", "0"]
    assert run(CALLS, CNNJAX_KEEP_MEMORY="0") == ["1", "1", "0", "0"]


def test_python_looks_for_cycles_rarely_but_as_the_user_says():
    before = gc.get_threshold()
    try:
        for own, then in ((700, 20_000), (50_000, 50_000), (0, 0)):
            gc.set_threshold(own, 11, 12)
            host_memory.collect_rarely()
            assert gc.get_threshold()[:2] == (then, 11)
    finally:
        gc.set_threshold(*before)


def test_only_the_first_call_compiles(monkeypatch):
    opened = []

    @contextlib.contextmanager
    def noted():
        opened.append("compiling")
        yield

    monkeypatch.setattr(host_memory, "compiling", noted)
    function = host_memory.gaps_closed(lambda x, *, y: x - y)
    assert [function(3, y=1), function(5, y=1)] == [2, 4] and opened == ["compiling"]


def test_another_c_library_is_left_alone(monkeypatch):
    from cnnjax.host_memory import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory.__wrapped__() is False
