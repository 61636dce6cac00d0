# SPDX-License-Identifier: Apache-2.0
"""The backend: its flags and compilation cache, one mesh over all devices, and where arrays lie on it."""

import functools
import hashlib
import logging
import os
import platform
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jaxlib.version
import numpy as np
from jax._src import xla_bridge  # whether a backend has started, nobody else tells
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from cnnjax.data.cache import cache_dir
from cnnjax.errors import RunError, UsageError
from cnnjax.host_memory import collect_rarely, keep_freed_memory
from cnnjax.types import Config, PyTree

logger = logging.getLogger(__name__)

CACHE_BYTES = 2 * 2**30

CPU_FLAGS = {"xla_cpu_experimental_ynn_fusion_type": "-individual_convolution"}
"""What XLA is told on CPUs: to take its older convolution, up to seven times as fast as the newer (YNNPACK's)."""
_KNOWN_FROM, _KNOWN_BELOW = (0, 10, 2), (0, 13, 0)  # jaxlib: a flag that XLA does not know ends the process
GPU_FLAGS = {"xla_gpu_enable_latency_hiding_scheduler": "true"}
"""What XLA is told on GPUs: sums over several of them overlap with computation; on one GPU it changes little."""
DETERMINISTIC = "xla_gpu_deterministic_ops"
"""Of XLA on GPUs: only algorithms whose bits are the same in every run, chosen without timing them."""


def set_up(train: Config) -> None:
    """Sets the backend up as `config.train` says, and starts it. Flags of the user's own XLA_FLAGS are never changed.

    The flags are CPU_FLAGS and, where a GPU may be found, GPU_FLAGS and, with `config.train.deterministic`,
    DETERMINISTIC; XLA reads them when the backend starts. CPUs and TPUs give the same bits in every run anyway.

    Raises:
      UsageError: XLA_FLAGS contradicts `config.train.deterministic`.
      RunError: the GPU had started without the flag that `config.train.deterministic` needs.
    """
    keep_freed_memory()
    collect_rarely()
    precision = train.matmul_precision
    jax.config.update("jax_default_matmul_precision", None if precision == "default" else precision)
    given = _given_flags()
    if train.deterministic and given.get(DETERMINISTIC, "true").lower() not in ("true", "1", ""):
        raise UsageError(
            f"XLA_FLAGS says {DETERMINISTIC}={given[DETERMINISTIC]}, config.train.deterministic the opposite; drop one"
        )
    set_cpu_flags()
    if _may_have_gpu():
        _add_flags(GPU_FLAGS | ({DETERMINISTIC: "true"} if train.deterministic else {}))
    if train.deterministic:
        _check_deterministic(jax.default_backend())


def set_cpu_flags() -> None:
    """Tells XLA's CPU backend CPU_FLAGS, if this jaxlib knows them and no backend has started."""
    version = tuple(int(part) for part in jaxlib.version.__version__.split(".")[:3])
    if _KNOWN_FROM <= version < _KNOWN_BELOW:
        _add_flags(CPU_FLAGS)


def _add_flags(flags: Mapping[str, str]) -> None:
    if not xla_bridge.backends_are_initialized():
        given = _given_flags()
        new = [f"--{name}={value}" for name, value in flags.items() if name not in given]
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *new]).strip()


def _check_deterministic(backend: str) -> None:
    if backend in ("cpu", "tpu"):
        return
    if backend != "gpu":
        logger.warning("config.train.deterministic: nothing is known of backend %r, whose runs may differ", backend)
    elif DETERMINISTIC not in _given_flags():
        raise RunError(
            "config.train.deterministic: the GPU started without the flag it needs; start a new process with "
            f"XLA_FLAGS=--{DETERMINISTIC}=true"
        )


def _given_flags() -> dict[str, str]:
    """XLA_FLAGS by name."""
    flags = (flag.lstrip("-").partition("=") for flag in os.environ.get("XLA_FLAGS", "").split())
    return {name: value for name, _, value in flags}


def _may_have_gpu() -> bool:
    """Whether a GPU may be found, as far as can be told without starting a backend; a flag too many does no harm."""
    wanted = jax.config.jax_platforms or ""  # pyright: ignore[reportAttributeAccessIssue]
    named = not wanted or any(name in ("cuda", "gpu", "rocm") for name in wanted.split(","))
    return named and any(Path(path).exists() for path in ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/kfd"))


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that a second run starts at once; sets CPU_FLAGS first.

    `JAX_COMPILATION_CACHE_DIR` names another folder, `JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
    """
    set_cpu_flags()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # Code compiled for one processor may not run on another: homes are shared between machines.
        try:
            folder = cache_dir() / "xla" / hashlib.sha256(_processor().encode()).hexdigest()[:12]
        except RuntimeError:  # a user without a home, as in some containers
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # XLA cannot write programs with oneDNN's convolutions (layers/lowering) to the cache, and says so each time.
    warnings.filterwarnings("ignore", r"Error writing persistent compilation cache entry .*std::bad_alloc")
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    # To write one, jax reads through all entries: 70 ms where there are a thousand, more than a small program costs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`; those of a process lie side by side, in its order."""
    if jax.process_count() > 1:
        ordered = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        return Mesh(np.asarray(ordered), ("data",))
    # Auto: the compiler places what lies between; jax.make_mesh's default, Explicit, rejects plain train steps.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """An array whose axis `axis`, the batch, is divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def place_replicated(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays of the host, which must be the same in every process, on every device; it does not wait for them."""
    if jax.process_count() == 1:
        return jax.device_put(tree, replicated(mesh))
    # A device_put would first compare the processes' arrays, and wait for all of them.
    return jax.tree.map(lambda x: place(np.asarray(x), replicated(mesh)), tree)


def place_rows(tree: PyTree, mesh: Mesh, axis: int = 0) -> PyTree:
    """Arrays of the host whose axis `axis` holds the rows of this process (`Stream.local`), divided over the devices.

    The result has the rows of all processes, those of process 0 first; it does not wait for them.
    """
    split = split_rows(mesh, axis)
    if jax.process_count() == 1:
        return jax.device_put(tree, split)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(split, np.asarray(x)), tree)


def place(array: np.ndarray, sharding: Sharding) -> jax.Array:
    """An array of the host, whole and the same in every process, on the devices of a sharding."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def whole(tree: PyTree) -> PyTree:
    """The same arrays, those that are divided over the devices brought together on every one.

    All processes call it together; what is whole already stays as it is, and so do traced values.
    """
    return jax.tree.map(lambda x: x if getattr(x, "is_fully_replicated", True) else _gather(x.sharding.mesh)(x), tree)


@functools.cache
def _gather(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=replicated(mesh))


def of_this_process(tree: PyTree) -> PyTree:
    """Whole arrays for what one process computes by itself, when it is one of several."""
    return tree if jax.process_count() == 1 else jax.tree.map(np.asarray, tree)


def check_enough(num_examples: int, mesh: Mesh) -> None:
    """Raises UsageError when there are more devices than examples: a batch has one for each device at least."""
    if num_examples < mesh.size:
        raise UsageError(
            f"{mesh.size} devices and a training set of {num_examples}: a batch takes one example a device at least; "
            "let it see fewer devices (CUDA_VISIBLE_DEVICES, JAX_NUM_CPU_DEVICES, fewer processes)"
        )


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
