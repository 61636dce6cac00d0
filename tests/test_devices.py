# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from cnnjax import devices
from cnnjax.errors import RunError, UsageError
from experiments import default


def train(**values):
    section = default.get_config().train
    with section.unlocked():
        section.update(values)
    return section


@pytest.fixture
def machine(monkeypatch):
    """`machine(gpu=, started=, flags=)`: one that seems to be so; XLA_FLAGS afterwards by name."""

    def make(*, gpu: bool = True, started: bool = False, flags: str | None = None, backend: str = "gpu"):
        monkeypatch.setattr(devices, "_may_have_gpu", lambda: gpu)
        monkeypatch.setattr(devices.xla_bridge, "backends_are_initialized", lambda: started)
        monkeypatch.setattr(devices.jax, "default_backend", lambda: backend)
        monkeypatch.delenv("XLA_FLAGS", raising=False)
        if flags is not None:
            monkeypatch.setenv("XLA_FLAGS", flags)
        return devices._given_flags

    yield make
    jax.config.update("jax_default_matmul_precision", None)


LATENCY = "xla_gpu_enable_latency_hiding_scheduler"
(CONVOLUTION,) = devices.CPU_FLAGS


def test_flags_join_the_users_and_never_change_them(machine):
    seen = machine(flags="--xla_dump_to=/d --xla_gpu_autotune_level=0")
    devices.set_up(train())
    assert seen() == {"xla_dump_to": "/d", "xla_gpu_autotune_level": "0", LATENCY: "true"} | devices.CPU_FLAGS
    seen = machine(flags=f"--{LATENCY}=false --{CONVOLUTION}=reduce")
    devices.set_up(train(deterministic=True))
    assert seen() == {LATENCY: "false", devices.DETERMINISTIC: "true", CONVOLUTION: "reduce"}
    before = os.environ["XLA_FLAGS"]
    devices.set_up(train(deterministic=True))
    assert os.environ["XLA_FLAGS"] == before


def test_without_a_gpu_those_of_the_cpu_alone(machine, monkeypatch):
    seen = machine(gpu=False, backend="cpu")
    devices.set_up(train(deterministic=True))
    assert seen() == devices.CPU_FLAGS
    seen = machine(gpu=False, backend="cpu", started=True)
    devices.set_up(train(deterministic=True))
    assert not seen() and not os.environ.get("XLA_FLAGS")
    for version in ("0.10.1", "0.13.0"):
        seen = machine(gpu=False, backend="cpu")
        monkeypatch.setattr(devices.jaxlib.version, "__version__", version)
        devices.set_up(train())
        assert not seen()


def test_determinism_that_cannot_be_had_is_told(machine, caplog):
    machine(flags=f"--{devices.DETERMINISTIC}=false")
    with pytest.raises(UsageError, match=r"config\.train\.deterministic the opposite"):
        devices.set_up(train(deterministic=True))
    machine(started=True)
    with pytest.raises(RunError, match="start a new process with XLA_FLAGS=--xla_gpu_deterministic_ops=true"):
        devices.set_up(train(deterministic=True))
    machine(gpu=False, backend="metal")
    devices.set_up(train(deterministic=True))
    assert "nothing is known of backend 'metal'" in caplog.text


def test_matmul_precision_is_the_configs(machine):
    machine(gpu=False, backend="cpu")
    for name, value in (("highest", "highest"), ("default", None)):
        devices.set_up(train(matmul_precision=name))
        assert jax.config.jax_default_matmul_precision == value  # pyright: ignore[reportAttributeAccessIssue]


def test_xla_knows_the_flags():
    """An unknown name in XLA_FLAGS ends the process, on a CPU as well."""
    flags = devices.CPU_FLAGS | devices.GPU_FLAGS | {devices.DETERMINISTIC: "true"}
    flags = " ".join(f"--{name}={value}" for name, value in flags.items())
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], env=env, check=True, timeout=120)


def test_rows_are_divided_in_order_and_the_rest_is_everywhere():
    mesh, rows = devices.make_mesh(), np.arange(24).reshape(3, 4, 2)
    placed = devices.place_rows({"a": rows}, mesh, axis=1)["a"]
    np.testing.assert_array_equal(placed, rows)
    halves = sorted((shard.device.id, np.asarray(shard.data)) for shard in placed.addressable_shards)
    np.testing.assert_array_equal(halves[1][1], rows[:, 2:])
    assert all(np.asarray(s.data).shape == (3, 4, 2) for s in devices.place_replicated(rows, mesh).addressable_shards)
