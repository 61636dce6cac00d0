# SPDX-License-Identifier: Apache-2.0
"""The C library told to keep what programs give back: on a CPU, XLA asks it anew for all the memory of each step.

And to keep it in one piece, where a compilation has left it in many, and no more of it than a step needs.
"""

import contextlib
import ctypes
import functools
import gc
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_SWITCH = "CNNJAX_KEEP_MEMORY"
Result = TypeVar("Result")

_LARGE, _SMALL = 2**20, 24  # bytes: gaps of these sizes are closed; there are none smaller
_LARGE_BLOCK = 2**26  # bytes; a call that needs as much takes so long that sending it ahead gains nothing
_COLLECT_AFTER = 20_000  # objects
_FINER = 0.8  # from one size that is asked for to the next


class _Info(ctypes.Structure):
    """glibc's struct mallinfo2, numbers of bytes: what is free, and what of it lies at the end of the heap."""

    _fields_ = (
        *((f"unread{i}", ctypes.c_size_t) for i in range(8)),
        ("free", ctypes.c_size_t),
        ("top", ctypes.c_size_t),
    )


_plugs: list[int] = []  # blocks that close the gaps


@functools.cache
def keep_freed_memory() -> bool:
    """Makes freed memory stay with the process; whether that could be had.

    By default glibc maps large blocks one by one and gives them back when they are freed, so that every step pays for
    the clearing of every page that it touches (docs/step.md has what that costs). It is asked here for one heap for
    all threads, no blocks outside it, and no trimming. The process then keeps as much as it ever needed at once, until
    `give_back` is called.

    Only with glibc, which is Linux's usual one. `CNNJAX_KEEP_MEMORY=0` in the environment leaves it out; so does a
    setting of one's own (`MALLOC_...`, `GLIBC_TUNABLES`, or another allocator in `LD_PRELOAD`).
    """
    own = [name for name in os.environ if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD")]
    if os.environ.get(_SWITCH) == "0" or own or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) for name, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)))


def collect_rarely() -> None:
    """Has Python look for unreachable cycles after 20,000 new objects, not after 700; more, if so set, is left alone.

    Tracing makes millions of objects that are all in use: a fifth of a deep network's start was spent in looking
    through them (docs/step.md).
    """
    young, *older = gc.get_threshold()
    if 0 < young < _COLLECT_AFTER:  # 0 is never
        gc.set_threshold(_COLLECT_AFTER, *older)


def give_back() -> None:
    """Gives to the kernel what this process has freed and kept: only then is it counted as free.

    What is needed again is cleared anew, once. Without glibc nothing was kept, and nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


class StepMemory:
    """Bounds what the calls of a program make this process keep, where it keeps what they free.

    Each call takes one block for all that it computes, in the place of the last one's. Not so if it is sent before the
    last one is done, or if something small has come to lie there (glibc keeps the bytes that aligning the block leaves
    over for just such): then it takes another, and so the process came to keep three or four. So where the block is
    large, no call is sent ahead, and what is free goes back to the kernel if more is resident than one block explains.

    Args:
      analysis: of the program, `jax.stages.Compiled.memory_analysis()`.
    """

    def __init__(self, analysis: Any) -> None:
        kept = jax.default_backend() == "cpu" and keep_freed_memory()
        block = analysis.temp_size_in_bytes * jax.local_device_count() if analysis and kept else 0
        self._block = block if block >= _LARGE_BLOCK else 0
        self._most: float | None = None  # bytes that may be resident

    @property
    def calls_ahead(self) -> int:
        """How many calls may be under way when the next one is sent."""
        return 0 if self._block else 1

    def called(self) -> None:
        """To be called after each call that is done."""
        if not self._block:
            return
        resident = _resident_bytes()
        if self._most is None:
            self._most = resident + 0.5 * self._block
        elif resident > self._most:
            give_back()
            self._most = _resident_bytes() + 1.5 * self._block


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """For a compilation on a CPU: the gaps that it leaves in the heap are closed when it ends.

    A compilation leaves many thousands of small gaps between blocks that stay. Every block that a step needs for a
    moment is then looked for among them, by all threads one after the other, and found in memory that no cache holds
    (docs/step.md has what that costs). So they are given back to the kernel, as all else that is free, and filled with
    blocks that nothing touches. The next compilation gets them to use.

    Only where `keep_freed_memory` could be had, with glibc 2.33 or later.
    """
    if jax.default_backend() != "cpu" or not keep_freed_memory() or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype, libc.malloc.restype, libc.sbrk.restype = _Info, ctypes.c_void_p, ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    while _plugs:
        libc.free(_plugs.pop())
    try:
        yield
    finally:
        give_back()
        info = libc.mallinfo2()
        end = libc.sbrk(ctypes.c_ssize_t(0)) - info.top
        large = _fill(libc, end, info.free - info.top, _LARGE)
        _plugs.extend(_fill(libc, end, _LARGE, _SMALL))
        for block in large:
            libc.free(block)


def gaps_closed(compiled: Callable[..., Result]) -> Callable[..., Result]:
    """`compiled`, a jitted function whose first call compiles it, with that call within `compiling`."""
    called = False

    def call(*args: Any, **kwargs: Any) -> Result:
        nonlocal called
        with contextlib.nullcontext() if called else compiling():
            called = True
            return compiled(*args, **kwargs)

    return call


def _fill(libc: Any, end: int, most: float, least: int) -> list[int]:
    """Blocks of `most` bytes and less, as many as have room before the address `end`."""
    blocks = []
    while most >= least:
        block = libc.malloc(int(most))
        if block is None or block > end:
            libc.free(block)
            most *= _FINER
        else:
            blocks.append(block)
    return blocks
