# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cnnjax import memory
from cnnjax.memory import TooLarge

GIB = 2**30


def machine(root: Path, *, available_kib: int, groups: dict[str, tuple[str, int, int]], own: str = "/job/step") -> Path:
    """What /proc and /sys say; of each control group its limit, what it uses, and how much of that are files."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {available_kib} kB\n")
    (root / "proc/self/cgroup").write_text(f"0::{own}\n")
    for name, (limit, used, files) in groups.items():
        folder = root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {files}\n")
    return root


def test_what_is_free_is_the_least_of_the_machine_and_the_groups_around_the_process(tmp_path):
    groups = {"job": (str(8 * GIB), 3 * GIB, GIB), "job/step": ("max", 0, 0)}
    assert memory._free_of_machine(machine(tmp_path / "a", available_kib=16 * 2**20, groups=groups)) == 6 * GIB
    assert memory._free_of_machine(machine(tmp_path / "b", available_kib=2**20, groups=groups)) == GIB
    assert memory._free_of_machine(machine(tmp_path / "c", available_kib=2**20, groups={})) == GIB
    assert memory._free_of_machine(tmp_path / "nothing") is None


def test_the_devices_of_a_cpu_share_its_memory(monkeypatch):
    monkeypatch.setattr(memory, "_free_of_machine", lambda: 1000)
    assert jax.local_device_count() == 2 and memory.free_bytes() == 500


def test_a_step_is_refused_when_it_needs_more_than_is_free(monkeypatch):
    arrays = jnp.ones(1000)
    analysis = jax.jit(lambda x: (jnp.sort(x), x[0])).lower(arrays).compile().memory_analysis()
    needed = memory.needed_bytes(analysis, arrays)
    assert needed is not None and 4000 <= needed < 9000  # the argument itself lies there already
    monkeypatch.setattr(memory, "free_bytes", lambda: needed)
    memory.check_step(analysis, arrays)
    monkeypatch.setattr(memory, "free_bytes", lambda: needed - 1)
    with pytest.raises(TooLarge, match=r"^a step needs .* KiB of memory, and .* KiB are free$"):
        memory.check_step(analysis, arrays)


def test_an_accelerators_complaint_is_told_and_other_errors_stay():
    with pytest.raises(TooLarge, match=r"^the CPU's memory is exhausted$"), memory.exhaustion_told():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 3 bytes.")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), memory.exhaustion_told():
        raise jax.errors.JaxRuntimeError("INTERNAL: else")
