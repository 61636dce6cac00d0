# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cnnjax.data.order import epoch_order, make_balanced, permutation, stream_positions


@pytest.mark.parametrize("num_examples", [1, 2, 7, 1000])
def test_an_epoch_is_a_permutation(num_examples: int):
    order = epoch_order(3, 5, num_examples)
    assert order.dtype == np.int32
    assert sorted(order.tolist()) == list(range(num_examples))


def test_order_depends_on_seed_and_epoch():
    orders = [epoch_order(seed, epoch, 50).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    epoch_order.cache_clear()
    assert orders[0] == epoch_order(0, 0, 50).tolist()


def test_order_is_that_of_every_release():
    assert epoch_order(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]  # Philox4x64's words for key (0, 0), sorted
    assert epoch_order(-1, 0, 8).tolist() == permutation(8, (2**64 - 1, 0)).tolist()


def test_shared_order_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(0, 0, 5)[0] = 1


def test_the_stream_is_the_epochs_end_to_end():
    example, epoch = stream_positions(0, 0, 12, 5)
    assert epoch.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    whole = np.concatenate([epoch_order(0, each, 5) for each in range(3)])
    np.testing.assert_array_equal(example, whole[:12])
    assert example.dtype == epoch.dtype == np.int32


def test_a_part_of_the_stream_equals_the_whole():
    whole = stream_positions(1, 0, 100, 7)
    for start, count in [(0, 1), (5, 4), (6, 1), (7, 7), (13, 30)]:
        part = stream_positions(1, start, count, 7)
        np.testing.assert_array_equal(part[0], whole[0][start : start + count])
        np.testing.assert_array_equal(part[1], whole[1][start : start + count])


def test_far_along_the_stream():
    example, epoch = stream_positions(0, 10**12, 3, 10**6)
    assert epoch.tolist() == [10**6] * 3
    np.testing.assert_array_equal(example, epoch_order(0, 10**6, 10**6)[:3])


LABEL = np.array([0] * 7 + [1] * 2 + [3] * 1)


def test_balanced_classes_come_equally_often_whatever_their_size():
    order = make_balanced(LABEL)
    counts = np.array([np.bincount(LABEL[order(0, epoch, 10).example], minlength=4)[[0, 1, 3]] for epoch in range(6)])
    assert (counts.sum(axis=1) == 10).all() and set(counts.ravel()) == {3, 4}
    assert counts.sum(axis=0).tolist() == [20, 20, 20]


def test_balanced_pictures_of_a_class_come_all_before_any_comes_again():
    order = make_balanced(LABEL)
    epochs = [order(5, epoch, 10) for epoch in range(21)]
    example, visit = (np.concatenate(whole) for whole in zip(*epochs, strict=True))
    for row in range(10):
        assert sorted(visit[example == row]) == list(range((example == row).sum()))  # no visit twice, none left out
    assert np.bincount(example).tolist() == [10] * 7 + [35] * 2 + [70]
    assert order(5, 3, 10).example.tolist() != order(6, 3, 10).example.tolist()
    np.testing.assert_array_equal(order(5, 3, 10).example, epochs[3].example)


def test_balanced_order_is_shuffled():
    first = make_balanced(np.repeat([0, 1], 50))(0, 0, 100).example
    assert 15 < (first[:50] < 50).sum() < 35 and sorted(first) == list(range(100))


def test_a_part_of_the_balanced_stream_equals_the_whole():
    order = make_balanced(LABEL)
    whole = stream_positions(1, 0, 100, 10, order)
    for start, count in [(0, 1), (9, 2), (10, 10), (13, 30)]:
        for part, of in zip(stream_positions(1, start, count, 10, order), whole, strict=True):
            np.testing.assert_array_equal(part, of[start : start + count])
            assert part.dtype == np.int32
