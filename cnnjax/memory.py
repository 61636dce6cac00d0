# SPDX-License-Identifier: Apache-2.0
"""Whether a compiled step fits into the memory, told before it starts: a CPU's kernel would kill the process."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.host_memory import give_back
from cnnjax.report.table import format_bytes
from cnnjax.types import Config, PyTree


class TooLarge(UsageError):
    """What is to be computed does not fit into the memory."""


def check_fits(analysis: Any, resident: PyTree, others: Sequence[PyTree], config: Config, size: int = 1) -> None:
    """Raises TooLarge when the device has less memory free than the compiled step of the networks needs.

    Args:
      analysis: of the step, `jax.stages.Compiled.memory_analysis()`.
      resident: its arguments that lie on the device already, the data.
      others: states of networks that wait for their turn.
      config: of one of the networks.
      size: how many the program trains.
    """
    needed, free = needed_bytes(analysis, resident), free_bytes()
    size += len(others)
    if needed is not None and free is not None and (needed := needed + _bytes(others)) > free:
        raise TooLarge(
            f"{size} networks {config.model.name} at once need {format_bytes(needed)} of memory, and "
            f"{format_bytes(free)} are free: train at most {max(int(free / needed * size), 1)} at once, or lower "
            f"config.data.batch_size ({config.data.batch_size})"
        )


def check_step(analysis: Any, resident: PyTree) -> None:
    """Raises TooLarge when a compiled step needs more memory beside its `resident` arguments than is free."""
    needed, free = needed_bytes(analysis, resident), free_bytes()
    if needed is not None and free is not None and needed > free:
        raise TooLarge(f"a step needs {format_bytes(needed)} of memory, and {format_bytes(free)} are free")


@contextlib.contextmanager
def exhaustion_told() -> Iterator[None]:
    """Turns an accelerator's complaint that its memory is exhausted into TooLarge."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TooLarge(f"the {jax.default_backend().upper()}'s memory is exhausted") from error


def needed_bytes(analysis: Any, resident: PyTree) -> int | None:
    """What a program takes on a device beside arguments that lie there already; None when it is not known.

    `analysis` is the program's `memory_analysis()`, which takes a quarter of a second where a network is deep.
    """
    if analysis is None:
        return None
    lying = _bytes(resident)
    returned = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + returned - lying


def free_bytes() -> int | None:
    """Memory that is free on each device, that which an earlier network has left included; None when not known."""
    device = jax.local_devices()[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    if device.platform != "cpu":
        return None
    give_back()  # else a second network in this process would find no room beside what the first one needed
    free = _free_of_machine()
    return None if free is None else free // jax.local_device_count()


def _free_of_machine(root: Path = Path("/")) -> int | None:
    """What the machine has, or the container or job of a scheduler that this process is in may still take."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    return None if free is None else min([free, *_free_of_groups(root)])


def _free_of_groups(root: Path) -> Iterator[int]:
    """What each control group (version 2) that holds this process may still take."""
    with contextlib.suppress(OSError, ValueError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        own = next((line[3:] for line in lines if line.startswith("0::")), "/").lstrip("/")
        top = root / "sys/fs/cgroup"
        for group in (top / own, *(top / own).parents):
            if group.is_relative_to(top) and (group / "memory.max").is_file():
                yield from _free_of_group(group)


def _free_of_group(group: Path) -> Iterator[int]:
    limit = (group / "memory.max").read_text().strip()
    if limit == "max":
        return
    used = int((group / "memory.current").read_text())
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    yield int(limit) - used + int(stat.get("inactive_file", 0))  # files kept in memory give way


def _bytes(tree: PyTree) -> int:
    """What arrays take on one device; of those that are divided, a part lies there."""
    leaves = [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(math.prod(_shape_on_a_device(x)) * x.dtype.itemsize for x in leaves)


def _shape_on_a_device(x: Any) -> tuple[int, ...]:
    sharding = getattr(x, "sharding", None)
    return x.shape if sharding is None else sharding.shard_shape(x.shape)
