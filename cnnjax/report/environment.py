# SPDX-License-Identifier: Apache-2.0
"""Where and with what a run was made, and files that are there whole or not at all."""

import contextlib
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnjax.errors import RunError

PACKAGES = (
    "cnnjax",
    "flax",
    "jax",
    "jaxlib",
    "ml-collections",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "pillow",
    "scikit-learn",
    "tensorflow-datasets",
)
VARIABLES = ("JAX_", "XLA_", "LIBTPU_", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS")
SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


def environment(root: Path = Path(__file__).parents[2]) -> dict[str, Any]:
    """What is needed to understand, and to repeat, the numbers of a run. Starts JAX's backend.

    Args:
      root: the folder of the project, asked for its git commit.

    Returns:
      A dict for `write_json`: `start_time` (UTC, ISO 8601), `host`, `pid`, `command`, `directory`, `git` (`commit`
      and `dirty`: files changed or added since; None outside a checkout), `python`, `versions` by package (None: not
      installed), `platform`, `cpu` (`model`, `count`, `usable`: those this process may use), `memory_bytes`,
      `num_processes`, `devices` (`kind`, `platform`, `count`, `memory_bytes` of one, `runtime`) and `variables`
      (those that steer JAX and XLA, without secrets). What cannot be found out is None.
    """
    return {
        "start_time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "pid": os.getpid(),
        "command": shlex.join(sys.orig_argv),
        "directory": str(Path.cwd()),
        "git": git_state(root),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "count": os.cpu_count(), "usable": _usable_cpus()},
        "memory_bytes": _memory_bytes(),
        **_devices(),
        "variables": {name: os.environ[name] for name in sorted(os.environ) if _is_telling(name)},
    }


def git_state(root: Path) -> dict[str, Any] | None:
    """The commit checked out at `root` and whether files differ from it; None when `root` is no checkout."""
    if not (root / ".git").exists():  # else git would answer for a repository that merely encloses `root`
        return None
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain")
    return None if commit is None or status is None else {"commit": commit, "dirty": bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    # Inside a git hook GIT_DIR points elsewhere; without optional locks a commit at the same time is not disturbed.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # macOS
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def _usable_cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory_bytes() -> int | None:
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _devices() -> dict[str, Any]:
    import jax

    # Only a device of this process tells its memory; those of one kind are alike.
    memory = {device.device_kind: (device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()}
    kinds = Counter((device.device_kind, device.platform) for device in jax.devices())
    runtime = jax.devices()[0].client.platform_version
    return {
        "num_processes": jax.process_count(),
        "devices": [
            {"kind": kind, "platform": name, "count": count, "memory_bytes": memory.get(kind), "runtime": runtime}
            for (kind, name), count in sorted(kinds.items())
        ],
    }


def _is_telling(variable: str) -> bool:
    return variable.startswith(VARIABLES) and not any(word in variable.upper() for word in SECRETS)


def to_plain(value: Any) -> Any:
    """`value` as strict JSON can hold it.

    NaN and the infinities become the strings "NaN", "Infinity" and "-Infinity", which Python's `float` reads
    back; NumPy and JAX arrays become numbers or lists, tuples lists, and paths strings.

    Raises:
      TypeError: there is something else in `value`.
    """
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):  # an array or a NumPy scalar, among them np.float64, which is a float too
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} has no form in JSON")


def write_json(path: Path, obj: Any) -> None:
    """Writes `to_plain(obj)` to `path`, indented by 2, in the order given; atomic.

    Raises:
      RunError: the file cannot be written.
    """
    text = json.dumps(to_plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A command line may hold bytes that are not UTF-8; they stay, in the form that JSON, too, knows: \udcff.
    write_atomic(path, text.encode(errors="backslashreplace"))


def write_atomic(path: Path, content: bytes) -> None:
    """Replaces the file `path`, making its folder: a reader, or a crash, meets the old content or the new one.

    Raises:
      RunError: the file cannot be written; an old one is then unharmed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # the content is on the disk before the name points to it
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> RunError:
    """The one-line error for a file that could not be written."""
    reason = error.strerror or str(error)
    return RunError(f"cannot write {path}: {reason}; make room or give a --workdir that can be written to")
