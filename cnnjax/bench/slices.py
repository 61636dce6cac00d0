# SPDX-License-Identifier: Apache-2.0
"""A training step compiled for a slice of TPUs that is not here, and what XLA counts in it.

XLA's compiler for TPUs, libtpu, runs on any machine; only the program's execution needs the chips.
"""

import importlib.util
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, Sharding

from cnnjax import devices
from cnnjax.augment import needs_partner
from cnnjax.bench.collectives import Collective, list_collectives
from cnnjax.bench.subject import Subject
from cnnjax.errors import UsageError
from cnnjax.experiment import build_train_step, make_plan
from cnnjax.sharding import divide, gather_in_training
from cnnjax.step import init_state
from cnnjax.types import PyTree

# It would look for the machine of the chips, complain, and refuse to be loaded beside another process that uses them.
_VARIABLES = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
_STEPS_PER_EPOCH = 100.0  # only constants of the schedule depend on it


class Program(NamedTuple):
    """What one chip does in a step, as XLA counts it.

    Attributes:
      flops: operations of its arithmetic.
      accessed_bytes: read and written by all of its instructions, whether they lie in HBM or in the chip's own memory.
      memory_bytes: of HBM, at most: state, batch and what the step needs for itself.
      collectives: in which it takes part.
    """

    flops: float
    accessed_bytes: float
    memory_bytes: int
    collectives: tuple[Collective, ...]


def slice_mesh(name: str) -> Mesh:
    """The chips of a slice such as "v5e:16x16", for compilation only.

    Raises:
      UsageError: libtpu is not installed, or knows no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UsageError("--mode=estimate compiles for TPUs with libtpu, which is not installed: uv sync --extra tpu")
    for variable, value in _VARIABLES.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        chips = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # of several kinds, by the version of libtpu
        raise UsageError(f"--slice={name}: {' '.join(str(error).split())[:200]}; take another one") from error
    return Mesh(np.asarray(chips), ("data",))


def compile_step(subject: Subject, mesh: Mesh) -> Program:
    """Compiles one training step of `subject.config` for `mesh`; minutes for a deep network.

    Pictures are those that a streamed set brings in each step: uint8 [B,H,W,C], a random crop already taken.
    """
    config = subject.config.copy_and_resolve_references()
    if config.data.crop_whole:
        with config.unlocked():
            config.augment.crop_area = (1.0, 1.0)  # by the host
    batch_size = config.data.batch_size
    devices.check_divides(batch_size, mesh, "config.data.batch_size")
    image = jax.ShapeDtypeStruct((batch_size, *subject.image_shape), jnp.float32)
    params = jax.eval_shape(subject.model.init, jax.random.key(0), image)[0]
    model = gather_in_training(subject.model, divide(params, mesh, config.train.shard_params))
    counts = np.ones(subject.num_classes, np.int64)
    step, tx, _ = build_train_step(config, model, image, counts, make_plan(config.train, _STEPS_PER_EPOCH))
    key, kept = jax.random.key(0), {"ema": config.train.ema_decay > 0, "lookahead": config.optimizer.lookahead > 0}
    state = jax.eval_shape(lambda: init_state(model, tx, jnp.zeros(image.shape, image.dtype), key, **kept))
    placed = divide(state, mesh, config.train.shard_params)
    jitted = jax.jit(
        lambda state, batch: step(state, batch, key),
        donate_argnums=0,
        out_shardings=(placed, devices.replicated(mesh)),
    )
    state = jax.tree.map(lambda x, lies: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies), state, placed)
    batch = _batch(image.shape, needs_partner(config.augment), devices.split_rows(mesh))
    compiled = jitted.lower(state, batch).compile()
    costs, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    assert memory is not None  # CPUs and TPUs tell
    needed = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Program(
        costs["flops"],
        costs["bytes accessed"],
        needed - memory.alias_size_in_bytes,
        tuple(list_collectives(compiled.as_text() or "", mesh.size)),
    )


def _batch(shape: tuple[int, ...], with_partner: bool, sharding: Sharding) -> PyTree:
    kinds = {"label": jnp.int32, "mask": jnp.float32, "example": jnp.int32, "epoch": jnp.int32}
    batch: dict[str, Any] = {
        name: jax.ShapeDtypeStruct(shape[:1], kind, sharding=sharding) for name, kind in kinds.items()
    }
    batch["image"] = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=sharding)
    return {**batch, "partner": batch} if with_partner else batch
