# SPDX-License-Identifier: Apache-2.0
"""Whether networks that train together fit into the memory, told before they start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.report.table import format_bytes
from cnnjax.types import Config, PyTree


class TooLarge(UsageError):
    """The networks do not fit into the memory together."""


def check_fits(compiled: Any, resident: PyTree, others: Sequence[PyTree], config: Config, size: int = 1) -> None:
    """Raises TooLarge when the device has less memory free than the compiled step of the networks needs.

    Args:
      compiled: the step, `jax.stages.Compiled`.
      resident: its arguments that lie on the device already, the data.
      others: states of networks that wait for their turn.
      config: of one of the networks.
      size: how many the program trains.
    """
    needed, free = needed_bytes(compiled, resident), free_bytes()
    size += len(others)
    if needed is not None and free is not None and (needed := needed + _bytes(others)) > free:
        raise TooLarge(
            f"{size} networks {config.model.name} at once need {format_bytes(needed)} of memory, and "
            f"{format_bytes(free)} are free: train at most {max(int(free / needed * size), 1)} at once, or lower "
            f"config.data.batch_size ({config.data.batch_size})"
        )


def needed_bytes(compiled: Any, resident: PyTree) -> int | None:
    """What a program takes on a device beside arguments that lie there already; None when it is not known."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    lying = _bytes(resident)
    returned = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + returned - lying


def free_bytes() -> int | None:
    """Memory that is free on each device; None when it is not known."""
    device = jax.local_devices()[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    if device.platform != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    return None if free is None else free // jax.local_device_count()


def _bytes(tree: PyTree) -> int:
    leaves = [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in leaves)
