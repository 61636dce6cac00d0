# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose files anybody may have changed: the numbers that were saved, or a reason; never other numbers."""

import contextlib
import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from cnnjax.checkpoint import Checkpoints
from cnnjax.types import TrainState
from tests.fuzz.tools import anything, bounded, fuzz, hostile_json

KERNEL = jnp.arange(6.0).reshape(2, 3)
STATE = TrainState(jnp.asarray(3), {"kernel": KERNEL}, {"mean": jnp.ones(3)}, (jnp.zeros(2),), {})

# What the library's own threads could not read it tells when they are thrown away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    """The complaints come here, and not in the midst of another test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved")
    with contextlib.closing(Checkpoints(path, keep=1, keep_best=True)) as checkpoints:
        checkpoints.save(3, STATE, 0.5)
    return path


def like() -> dict[str, Any]:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), STATE)._asdict()


def opened(path: Path) -> None:
    with bounded(), contextlib.closing(Checkpoints(path)) as checkpoints:
        checkpoints.best()
        found = checkpoints.restore_newest(like())
        if found is not None:
            jax.tree.map(np.testing.assert_array_equal, TrainState(**found[1]), STATE)


def is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


# The library drops its coroutines when it fails; what they say as they go is no error of ours.
@fuzz(0.5, data=st.data())
def test_files_of_a_checkpoint(saved: Path, data: st.DataObject):
    path = saved.with_name("changed")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(saved, path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file = data.draw(st.sampled_from(files))
    if is_json(file) and data.draw(st.integers(0, 3)):
        file.write_bytes(data.draw(hostile_json(json.loads(file.read_bytes()))))
    else:
        file.write_bytes(data.draw(anything(file.read_bytes())))
    opened(path)


def test_it_is_whole_to_begin_with(saved: Path):
    opened(saved)
    assert Checkpoints(saved).best() == 3
