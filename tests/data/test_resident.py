# SPDX-License-Identifier: Apache-2.0
from typing import Any

import jax
import numpy as np
import pytest

from cnnjax.data.order import epoch_order
from cnnjax.data.resident import eval_stream, num_batches, train_stream
from cnnjax.errors import UsageError
from cnnjax.types import Split, Stream


def make_split(num_examples: int) -> Split:
    """Each image is filled with its row, each label is 100 more."""
    row = np.arange(num_examples)
    image = np.broadcast_to(row[:, None, None, None], (num_examples, 2, 3, 1)).astype(np.uint8)
    return Split(image, (row + 100).astype(np.int32))


def batches(stream: Stream, first: int, count: int) -> list[dict[str, Any]]:
    items = stream.items(first, count)
    steps = [{key: value[k] for key, value in items.items()} for k in range(count)]
    return [dict(stream.batch(stream.arrays, step)) for step in steps]


def column(stream: Stream, count: int, key: str) -> list[int]:
    return np.concatenate([batch[key] for batch in batches(stream, 0, count)]).tolist()


def test_a_training_batch_holds_the_rows_of_its_positions():
    stream = train_stream(make_split(10), batch_size=4, seed=3)
    assert (stream.num_examples, stream.batch_size, num_batches(stream)) == (10, 4, 3)
    batch = batches(stream, 2, 1)[0]  # positions 8..11: it straddles the end of the first epoch
    expected = [*epoch_order(3, 0, 10)[8:], *epoch_order(3, 1, 10)[:2]]
    np.testing.assert_array_equal(batch["example"], expected)
    np.testing.assert_array_equal(batch["epoch"], [0, 0, 1, 1])
    np.testing.assert_array_equal(batch["image"][:, 1, 2, 0], expected)
    np.testing.assert_array_equal(batch["label"], np.array(expected) + 100)
    np.testing.assert_array_equal(batch["mask"], np.ones(4))
    assert batch["image"].shape == (4, 2, 3, 1)
    assert [batch[key].dtype for key in ("image", "label", "mask", "example", "epoch")] == [
        np.uint8,
        np.int32,
        np.float32,
        np.int32,
        np.int32,
    ]
    assert "partner" not in batch


def test_rows_do_not_depend_on_the_batch_size():
    sequences = {
        size: column(train_stream(make_split(12), batch_size=size, seed=0), 24 // size, "example") for size in (1, 3, 8)
    }
    assert sequences[1] == sequences[3] == sequences[8]
    assert sorted(sequences[1]) == sorted([*range(12), *range(12)])


def test_items_do_not_depend_on_how_many_are_asked_for():
    stream = train_stream(make_split(10), batch_size=4, seed=0, with_partner=True)
    whole = stream.items(0, 6)
    assert {key: value.shape for key, value in whole.items()} == dict.fromkeys(
        ("example", "epoch", "partner_example", "partner_epoch"), (6, 4)
    )
    for first, count in [(0, 1), (3, 2), (5, 1)]:
        for key, value in stream.items(first, count).items():
            np.testing.assert_array_equal(value, whole[key][first : first + count])


def test_the_partner_is_the_next_row_of_the_stream():
    stream = train_stream(make_split(5), batch_size=2, seed=0, with_partner=True)
    rows = column(train_stream(make_split(5), batch_size=1, seed=0), 11, "label")
    got = batches(stream, 0, 5)
    assert np.concatenate([batch["label"] for batch in got]).tolist() == rows[:10]
    partners = [batch["partner"] for batch in got]
    assert np.concatenate([partner["label"] for partner in partners]).tolist() == rows[1:]
    assert set(partners[0]) == {"image", "label", "mask", "example", "epoch"}
    epochs = np.concatenate([partner["epoch"] for partner in partners])
    assert epochs.tolist() == [0] * 4 + [1] * 5 + [2]


def test_batch_is_traced():
    stream = train_stream(make_split(6), batch_size=3, seed=0, with_partner=True)
    item = jax.tree.map(lambda leaf: leaf[0], stream.items(1, 1))
    plain, traced = stream.batch(stream.arrays, item), jax.jit(stream.batch)(stream.arrays, item)
    jax.tree.map(np.testing.assert_array_equal, dict(plain), dict(traced))


@pytest.mark.parametrize("batch_size", [1, 3, 5, 7, 100])
def test_evaluation_counts_each_example_once(batch_size: int):
    stream = eval_stream(make_split(7), batch_size=batch_size)
    got = batches(stream, 0, num_batches(stream))
    assert all(batch["image"].shape == (batch_size, 2, 3, 1) for batch in got)
    label, mask = (np.concatenate([batch[key] for batch in got]) for key in ("label", "mask"))
    assert label[mask == 1].tolist() == list(range(100, 107))
    assert mask.sum() == 7
    assert (label[mask == 0] == 100).all()
    assert mask.dtype == np.float32


def test_steps_past_the_last_are_padding():
    stream = eval_stream(make_split(7), batch_size=3)
    assert num_batches(stream) == 3
    assert stream.items(2, 2)["mask"].tolist() == [[1, 0, 0], [0, 0, 0]]


def test_put_places_the_arrays():
    placed = []
    stream = eval_stream(make_split(4), batch_size=2, put=lambda array: placed.append(array.shape) or array)
    assert placed == [(4, 2, 3, 1), (4,)]
    assert isinstance(stream.arrays["image"], np.ndarray)


def test_batch_size_errors():
    with pytest.raises(UsageError, match=r"batch of 11 is larger than the training set of 10.*config.data.batch_size"):
        train_stream(make_split(10), batch_size=11, seed=0)
    with pytest.raises(UsageError, match=r"config.data.batch_size is 0"):
        train_stream(make_split(10), batch_size=0, seed=0)
    with pytest.raises(UsageError, match=r"config.data.eval_batch_size is 0"):
        eval_stream(make_split(10), batch_size=0)
