# SPDX-License-Identifier: Apache-2.0
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import devices
from cnnjax.checksums import checksums


def test_the_bytes_of_each_array_by_its_path():
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = checksums({"params": {"conv": jnp.asarray(kernel)}, "step": jnp.asarray(7, jnp.int32), "none": {}})
    assert found == {
        "params/conv": zlib.crc32(kernel.tobytes()),
        "step": zlib.crc32(np.int32(7).tobytes()),
    }


def test_any_type_and_every_bit_counts():
    for dtype in (jnp.bfloat16, jnp.float16, jnp.int8, jnp.bool_):
        before = jnp.zeros(9, dtype)
        assert checksums({"x": before}) != checksums({"x": before.at[4].set(jnp.ones((), dtype))})
    assert checksums({"x": jnp.zeros(3)}) != checksums({"x": -jnp.zeros(3)})  # equal numbers, other bits


def test_the_same_however_the_array_lies_on_the_devices():
    x, mesh = jnp.arange(8.0), devices.make_mesh()
    split = jax.device_put(x, devices.split_rows(mesh))
    everywhere = jax.device_put(x, devices.replicated(mesh))
    assert mesh.size == 2 and checksums({"x": x}) == checksums({"x": split}) == checksums({"x": everywhere})
