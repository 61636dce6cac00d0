# SPDX-License-Identifier: Apache-2.0
"""Every file of a checkpoint cut, emptied, taken away or with a bit flipped: the last good one is taken."""

import contextlib
import gc
import random
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax import devices
from cnnjax.checkpoint import Checkpoints
from cnnjax.training_run import train_run
from tests.faults.runs import arrays

# The library's threads complain about failed reads while they are cleared away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    """The complaints come here, and not in the midst of another test."""
    yield
    gc.collect()


def cut(content: bytes, draw: random.Random) -> bytes | None:
    return content[: draw.randrange(len(content))] if content else None


def emptied(content: bytes, draw: random.Random) -> bytes | None:
    return b""


def gone(content: bytes, draw: random.Random) -> bytes | None:
    return None


def flipped(content: bytes, draw: random.Random) -> bytes | None:
    where = draw.randrange(len(content)) if content else 0
    return content[:where] + bytes([content[where] ^ (1 << draw.randrange(8))]) + content[where + 1 :]


@pytest.mark.parametrize("flips", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_no_damage_to_any_file_is_used_silently(tiny, tmp_path: Path, flips: int, caplog):
    whole = tmp_path / "whole"
    train_run(tiny("train.ema_decay=0.9"), str(whole), draws=False)
    good = arrays(whole)
    reader = Checkpoints(whole)
    here = devices.replicated(devices.make_mesh())
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), reader.shapes(6))
    older = jax.tree.leaves(reader.restore(like, 4))
    draw, tried, noticed, harmless = random.Random(0), 0, 0, 0
    files = sorted(path for path in (whole / "checkpoints" / "6").rglob("*") if path.is_file())
    assert len(files) >= 5
    for file in files:
        content = file.read_bytes()
        for harm in (cut, emptied, gone, *[flipped] * flips):
            changed = harm(content, draw)
            if changed == content:
                continue
            tried += 1
            file.unlink() if changed is None else file.write_bytes(changed)
            caplog.clear()
            with contextlib.closing(Checkpoints(whole)) as damaged:
                found = damaged.restore_newest(like)
            assert found is not None
            if found[0] == 4:
                noticed += 1
                assert "checkpoint 6 in" in caplog.text, (file, harm)
                jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(found[1]), older)
            else:  # bytes that nothing depends on: what is read is what was saved
                harmless += 1
                leaves = jax.tree_util.tree_leaves_with_path(found[1])
                assert {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in leaves} == {
                    name: value.tobytes() for name, value in good.items()
                }, (file, harm)
            file.write_bytes(content)
    print(f"{tried} damages of {len(files)} files: {noticed} noticed, {harmless} without effect")
    assert noticed > len(files)
