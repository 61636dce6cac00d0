# SPDX-License-Identifier: Apache-2.0
"""Every tensor accounted for: taken, missing, unexpected, of another shape; errors unless allowed by name."""

import jax
import numpy as np
import pytest

from cnnjax.errors import RunError
from cnnjax.weights.convert import check, convert, match, table
from cnnjax.weights.layout import Layout
from cnnjax.weights.names import Place


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


LEAVES = {
    "params.conv1.kernel": shaped(3, 3, 1, 4),
    "params.output.kernel": shaped(6, 10),
    "params.output.bias": shaped(10),
}
FOUND = {
    "params.conv1.kernel": Place("conv1.weight", Layout("conv")),
    "params.output.kernel": Place("fc.weight", Layout("dense")),
    "params.output.bias": Place("fc.bias", Layout("same")),
}  # fmt: skip


def tensors(**changes):
    rng = np.random.default_rng(0)
    shapes = {"conv1.weight": (4, 1, 3, 3), "fc.weight": (10, 6), "fc.bias": (10,)}
    stored = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    stored |= changes
    return {name: array for name, array in stored.items() if array is not None}


def statuses(rows):
    return {row.theirs or row.ours: row.status for row in rows}


def test_all_taken():
    stored = tensors(**{"bn1.num_batches_tracked": np.array(3)})
    rows = match(stored, LEAVES, FOUND)
    assert statuses(rows) == {
        "conv1.weight": "transposed",
        "fc.weight": "transposed",
        "fc.bias": "taken",
        "bn1.num_batches_tracked": "ignored",
    }
    check(rows)
    arrays = convert(stored, LEAVES, FOUND, rows, {})
    np.testing.assert_array_equal(arrays["params.conv1.kernel"][2, 1, 0, 3], stored["conv1.weight"][3, 0, 2, 1])
    np.testing.assert_array_equal(arrays["params.output.kernel"], stored["fc.weight"].T)
    assert table(rows).splitlines()[-1] == "4 arrays: 2 transposed, 1 taken, 1 ignored"


def test_missing_and_unexpected_are_errors_unless_allowed_by_name():
    stored = tensors(**{"fc.bias": None, "extra.weight": np.zeros(2, np.float32)})
    rows = match(stored, LEAVES, FOUND)
    assert statuses(rows)["fc.bias"] == "missing" and statuses(rows)["extra.weight"] == "unexpected"
    with pytest.raises(RunError, match=r"1 missing, 1 unexpected of 4 arrays, the first fc\.bias"):
        check(rows)
    rows = match(stored, LEAVES, FOUND, allow=["extra.*"])
    with pytest.raises(RunError, match=r"1 missing of 4"):
        check(rows)
    rows = match(stored, LEAVES, FOUND, allow=["extra.*", "params.output.b*"])
    check(rows)
    assert statuses(rows)["fc.bias"] == "initial" and statuses(rows)["extra.weight"] == "left out"
    arrays = convert(stored, LEAVES, FOUND, rows, {"params.output.bias": np.full(10, 7.0, np.float32)})
    np.testing.assert_array_equal(arrays["params.output.bias"], np.full(10, 7.0))


def test_another_shape_is_named_with_both_shapes_and_a_reason():
    stored = tensors(**{"fc.weight": np.zeros((3, 6), np.float32), "conv1.weight": np.zeros((4, 3, 3, 3), np.float32)})
    rows = match(stored, LEAVES, FOUND, per_class=["params.output.kernel"])
    text = table(rows)
    assert "3x6" in text and "10x6" in text and "number of classes" in text
    assert "4x3x3x3" in text and "4x1x3x3" in text and "channels" in text
    with pytest.raises(RunError, match=r"2 shape differs .*conv1\.weight .*--input"):
        check(rows)
    rows = match(stored, LEAVES, FOUND, allow=["*"])
    assert statuses(rows)["fc.weight"] == "initial" and "allowed" in rows[1].note


def test_a_transposed_kernel_is_not_taken_for_ours():
    rows = match(tensors(**{"fc.weight": np.zeros((6, 10), np.float32)}), LEAVES, FOUND)
    assert rows[1].status == "shape differs" and "another order" in rows[1].note


def test_another_precision_is_converted_and_said():
    stored = tensors(**{"fc.bias": np.arange(10, dtype=np.float64)})
    rows = match(stored, LEAVES, FOUND)
    assert rows[2].note == "float64 to float32"
    assert convert(stored, LEAVES, FOUND, rows, {})["params.output.bias"].dtype == np.float32
