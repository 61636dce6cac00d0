# SPDX-License-Identifier: Apache-2.0
"""oneDNN's calls: used where they are known to work, and only there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import conv2d
from cnnjax.layers.lowering import onednn

FLOAT = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def _asked_anew():
    onednn._works.cache_clear()
    yield
    onednn._works.cache_clear()


def test_left_out_by_the_environment_and_for_unknown_versions(monkeypatch):
    monkeypatch.setenv("CNNJAX_ONEDNN", "0")
    assert not onednn.takes(FLOAT)
    monkeypatch.delenv("CNNJAX_ONEDNN")
    for version in ("0.10.1", "0.13.0"):
        onednn._works.cache_clear()
        monkeypatch.setattr("jaxlib.version.__version__", version)
        assert not onednn.takes(FLOAT)


def test_a_jaxlib_without_it_is_noticed(monkeypatch):
    def missing(*_):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no such custom call")

    monkeypatch.setattr(onednn, "forward", missing)
    assert not onednn.takes(FLOAT)


def test_asking_is_not_hindered_by_a_guard_on_transfers():
    there = onednn.takes(FLOAT)
    onednn._works.cache_clear()
    with jax.transfer_guard("disallow"):
        assert onednn.takes(FLOAT) == there


def test_used_where_it_works():
    if not onednn.takes(FLOAT):
        pytest.skip("this jaxlib has no oneDNN")
    assert onednn.takes(np.dtype(jnp.bfloat16)) and not onednn.takes(np.dtype(np.float64))
    x, kernel = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 17))
    step = jax.jit(lambda x, kernel: conv2d(x, kernel, padding=1)).lower(x, kernel)
    assert "__onednn$convolution" in step.as_text()
    assert step.compile()(x, kernel)[0, :2, :2, 0].tolist() == [[12, 18], [18, 27]]
    trained = jax.jit(jax.value_and_grad(lambda *arrays: conv2d(*arrays, padding=1).sum(), (0, 1))).lower(x, kernel)
    assert "__onednn" not in trained.as_text() and "stablehlo.convolution" in trained.as_text()
