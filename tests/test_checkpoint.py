# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.checkpoint import Checkpoints, DamagedCheckpoint, compare
from cnnjax.checksums import checksums
from cnnjax.errors import RunError
from cnnjax.notes import read_score, sealed
from cnnjax.types import TrainState


def state(value: float) -> TrainState:
    kernel = jnp.full((2, 3), value)
    return TrainState(
        jnp.asarray(int(value), jnp.int32),
        {"kernel": kernel},
        {"mean": jnp.full(3, value, jnp.bfloat16)},
        (kernel,),
        {},
    )


def like(of: TrainState):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), of)._asdict()


def test_the_latest_and_the_best_are_kept_and_come_back_whole(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=1, keep_best=True)
    for step, score in ((1, 0.2), (2, 0.9), (3, 0.9), (4, 0.1), (5, 0.3)):
        checkpoints.save(step, state(step), score)
    checkpoints.save(5, state(0), 0.0)  # a step that is there stays as it is
    checkpoints.wait()
    assert checkpoints.steps() == [3, 5] and checkpoints.latest() == 5 and checkpoints.best() == 3
    assert [read_score(checkpoints.directory / name) for name in ("3", "5")] == [0.9, 0.3]
    restored = TrainState(**checkpoints.restore(like(state(0)), 5))
    jax.tree.map(np.testing.assert_array_equal, restored, state(5))
    assert restored.model_state["mean"].dtype == jnp.bfloat16
    checkpoints.close()


def test_a_reader_leaves_what_is_being_written(tmp_path: Path):
    writer = Checkpoints(tmp_path, keep=2)
    writer.save(1, state(1))
    writer.close()
    unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert Checkpoints(tmp_path).steps() == [1] and unfinished.exists()
    again = Checkpoints(tmp_path, keep=2)  # a new writer: the old one is dead
    again.save(2, state(2))
    again.close()
    assert Checkpoints(tmp_path).steps() == [1, 2]


def test_compare_has_three_columns_missing_unexpected_reshaped():
    wanted = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4), "same": jnp.zeros(1)}
    stored = {"a": jnp.zeros((3, 2)), "c": jnp.zeros(5, jnp.int32), "same": jnp.zeros(1)}
    assert compare(wanted, stored) == [
        ("a", "float32[3, 2]", "float32[2, 3]"),
        ("b", "-", "float32[4]"),
        ("c", "int32[5]", "-"),
    ]


def written(tmp_path: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path, keep=5)
    for step in steps:
        checkpoints.save(step, state(step))
    checkpoints.wait()
    return checkpoints


def data_files(tmp_path: Path, step: int) -> list[Path]:
    """The files that hold the arrays of a step."""
    return sorted(path for path in (tmp_path / "checkpoints" / str(step)).rglob("*/d/*") if path.is_file())


def flip(file: Path, where: int) -> None:
    content = bytearray(file.read_bytes())
    content[where] ^= 16
    file.write_bytes(content)


# The library's threads complain about failed reads while they are cleared away.
noisy = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@noisy
def test_no_flipped_bit_is_used_silently(tmp_path: Path):
    checkpoints = written(tmp_path, 1)
    harmless = 0
    for file in data_files(tmp_path, 1):
        for where in range(0, file.stat().st_size, 37):
            flip(file, where)
            try:
                restored = TrainState(**checkpoints.restore(like(state(0)), 1))
            except DamagedCheckpoint:
                pass
            else:  # a byte that no number depends on
                jax.tree.map(np.testing.assert_array_equal, restored, state(1))
                harmless += 1
            flip(file, where)
    assert harmless < 20
    TrainState(**checkpoints.restore(like(state(0)), 1))
    checkpoints.close()


def test_a_changed_number_is_named(tmp_path: Path):
    checkpoints = written(tmp_path, 1)
    kernel = np.full((2, 3), 1, np.float32).tobytes()
    for file in data_files(tmp_path, 1):
        assert kernel not in file.read_bytes()  # compressed: the number cannot be found by looking for it
    description = tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA"
    crc = str(checksums({"x": state(1).params["kernel"]})["x"])
    document = json.loads(description.read_text().replace(crc, "1"))
    told = document["custom_metadata"]
    del told["seal"]
    document["custom_metadata"] = sealed(told)
    description.write_text(json.dumps(document))
    with pytest.raises(DamagedCheckpoint, match=r"checkpoint 1 in .* is damaged: opt_state/0 and 1 more"):
        checkpoints.restore(like(state(0)), 1)
    checkpoints.close()


@noisy
@pytest.mark.parametrize("damage", ["cut", "gone", "no description", "description cut"])
def test_the_newest_whole_step_is_taken_and_the_damaged_one_moved_aside(tmp_path: Path, damage: str, caplog):
    checkpoints = written(tmp_path, 1, 2, 3)
    folder = tmp_path / "checkpoints" / "3"
    largest = max(data_files(tmp_path, 3), key=lambda file: file.stat().st_size)
    if damage == "cut":
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    elif damage == "gone":
        largest.unlink()
    else:
        description = folder / "_CHECKPOINT_METADATA"
        description.write_text("" if damage == "no description" else description.read_text()[:100])
    wanted = like(state(0))
    reader = Checkpoints(tmp_path)
    found = reader.restore_newest(wanted)
    assert found is not None and found[0] == 2 and folder.exists()  # a reader moves nothing
    assert "checkpoint 3 in" in caplog.text and "damaged" in caplog.text
    found = checkpoints.restore_newest(wanted)
    assert found is not None and found[0] == 2 and int(found[1]["step"]) == 2
    assert (tmp_path / "damaged" / "3").is_dir() and checkpoints.steps() == [1, 2]
    checkpoints.save(3, state(3))
    checkpoints.wait()
    assert int(checkpoints.restore(wanted, 3)["step"]) == 3
    checkpoints.close()


@noisy
@pytest.mark.parametrize("name", ["commit_timestamp_nsecs", "item_handlers", "custom_metadata", '"seal', '"crc32'])
def test_a_bit_flipped_in_a_name_of_the_notes_makes_the_step_damaged_and_not_the_folder(tmp_path, name: str, caplog):
    written(tmp_path, 1, 2).close()
    notes = tmp_path / "checkpoints" / "2" / "_CHECKPOINT_METADATA"
    flip(notes, notes.read_bytes().index(name.encode()) + len(name) - 1)
    found = Checkpoints(tmp_path).restore_newest(like(state(0)))
    assert found is not None and found[0] == (2 if "seal" in name else 1)  # without its seal the rest is as it was
    caplog.clear()
    checkpoints = Checkpoints(tmp_path, keep=5)
    found = checkpoints.restore_newest(like(state(0)))
    assert found is not None and found[0] == (2 if "seal" in name else 1)
    if found[0] == 1:
        assert "checkpoint 2 in" in caplog.text and "damaged" in caplog.text
        assert (tmp_path / "damaged" / "2").is_dir() and checkpoints.steps() == [1]
    checkpoints.save(2, state(2))
    checkpoints.wait()
    assert int(checkpoints.restore(like(state(0)), 2)["step"]) == 2
    checkpoints.close()


@noisy
def test_when_no_notes_can_be_read_it_does_not_begin_anew_silently(tmp_path: Path):
    written(tmp_path, 1).close()
    notes = tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA"
    flip(notes, notes.read_bytes().index(b"commit_timestamp"))
    with pytest.raises(RunError, match=r"every checkpoint in .* is damaged"):
        Checkpoints(tmp_path, keep=5).restore_newest(like(state(0)))


@noisy
def test_a_bit_flipped_in_the_description_of_the_arrays_is_damage_and_no_other_network(tmp_path: Path):
    checkpoints = written(tmp_path, 1)
    description = tmp_path / "checkpoints" / "1" / "state" / "_METADATA"
    where = description.read_bytes().index(b'"key": "kernel"')
    flip(description, where + len('"key": "k'))
    with pytest.raises(DamagedCheckpoint, match="checkpoint 1 in"):
        checkpoints.restore(like(state(0)), 1)
    checkpoints.close()


@noisy
def test_nothing_whole_is_an_error_and_nothing_at_all_is_not(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.restore_newest(like(state(0))) is None
    checkpoints.save(1, state(1))
    checkpoints.wait()
    for file in data_files(tmp_path, 1):
        file.unlink()
    with pytest.raises(RunError, match=r"every checkpoint in .* is damaged"):
        checkpoints.restore_newest(like(state(0)))
    checkpoints.close()
