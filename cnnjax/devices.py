# SPDX-License-Identifier: Apache-2.0
"""The backend: its compilation cache, one mesh over all devices, and where arrays lie on it."""

import hashlib
import os
import platform
from pathlib import Path

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.data.cache import cache_dir
from cnnjax.errors import UsageError

CACHE_BYTES = 2 * 2**30


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that a second run starts at once.

    `JAX_COMPILATION_CACHE_DIR` names another folder, `JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # Code compiled for one processor may not run on another: homes are shared between machines.
        try:
            folder = cache_dir() / "xla" / hashlib.sha256(_processor().encode()).hexdigest()[:12]
        except RuntimeError:  # a user without a home, as in some containers
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def make_mesh() -> Mesh:
    """All devices along one axis, `data`."""
    # Auto: the compiler places what lies between; jax.make_mesh's default, Explicit, rejects plain train steps.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """An array whose axis `axis`, the batch, is divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def check_divides(batch_size: int, mesh: Mesh, key: str) -> None:
    """Raises UsageError when the batch cannot be divided over the devices."""
    if batch_size % mesh.size:
        near = max(mesh.size, batch_size // mesh.size * mesh.size)
        raise UsageError(f"{key} = {batch_size} does not divide over {mesh.size} devices; take {near}")


def _processor() -> str:
    """What compiled code depends on beside the program: the processor and its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
