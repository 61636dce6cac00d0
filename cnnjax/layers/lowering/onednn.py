# SPDX-License-Identifier: Apache-2.0
"""oneDNN's convolution, which jaxlib carries and XLA calls on a CPU when told to.

The custom call `__onednn$convolution` is what XLA's own oneDNN pass emits (in
xla/service/cpu/onednn_contraction_rewriter.cc); the pass is switched off in jaxlib, the call is not. It is no stable
interface: a configuration that oneDNN does not take ends the process. So it is used only with the versions of jaxlib
that it was tested with (`_VERSIONS`), and only if a first small convolution compiles and is right.
`CNNJAX_ONEDNN=0` in the environment leaves it out.

A program with such a call cannot be kept in the compilation cache: XLA has no way to write it.
"""

import functools
import json
import os
import platform

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.layers.lowering.native import mirror
from cnnjax.types import Array

_SWITCH = "CNNJAX_ONEDNN"
_VERSIONS = ((0, 10, 2), (0, 13, 0))  # from the first, below the second
_DTYPES = (np.dtype(np.float32), np.dtype(jnp.bfloat16))


def forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,H,W,C] and [h,w,C/groups,F] to [B,H',W',F]."""
    data = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    taps = {"dims": 4, "filter": {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}}
    config = {
        "dims": 4,
        "input": data,
        "kernel": taps,
        "output": data,
        "window": {
            "size": geometry.kernel_size,
            "pad_left": [low for low, _ in geometry.sides],
            "pad_right": [high for _, high in geometry.sides],
            "strides": geometry.stride,
            "window_dilations": geometry.dilation,
        },
        "feature_groups": geometry.groups,
    }
    call = jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct((x.shape[0], *geometry.output, kernel.shape[3]), x.dtype),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
    )
    return call(x, kernel)


def input_gradient(gradient: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,H',W',F] and [h,w,C/groups,F] to [B,H,W,C]; of a geometry that can be mirrored."""
    mirrored = geometry.mirrored()
    assert mirrored is not None
    return forward(gradient, mirror(kernel, geometry.groups), mirrored)


def takes(dtype: np.dtype) -> bool:
    """Whether the call is there, and takes arrays of `dtype`."""
    return dtype in _DTYPES and _works()


@functools.cache
def _works() -> bool:
    version = tuple(int(part) for part in jaxlib.version.__version__.split(".")[:3])
    known = _VERSIONS[0] <= version < _VERSIONS[1]
    if not known or (platform.system(), platform.machine()) != ("Linux", "x86_64") or os.environ.get(_SWITCH) == "0":
        return False
    geometry = Geometry((2, 3), (1, 2), (1, 1), ((0, 0), (1, 0)), (1, 1), 1)
    x, kernel = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1), np.array([1, 10], np.float32).reshape(1, 2, 1, 1)
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]), jax.transfer_guard("allow"):
            out = jax.jit(forward, static_argnums=2)(x, kernel, geometry)
    except jax.errors.JaxRuntimeError:  # this jaxlib was built without oneDNN
        return False
    return np.asarray(out).ravel().tolist() == [0, 10, 21, 30, 43, 54]
