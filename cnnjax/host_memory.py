# SPDX-License-Identifier: Apache-2.0
"""The C library told to keep what programs give back: on a CPU, XLA asks it anew for all the memory of each step."""

import ctypes
import functools
import os
import platform

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_SWITCH = "CNNJAX_KEEP_MEMORY"


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


def give_back() -> None:
    """Gives to the kernel what this process has freed and kept: only then is it counted as free.

    What is needed again is cleared anew, once. Without glibc nothing was kept, and nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
