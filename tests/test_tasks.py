# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.metrics import Evaluation, confusion_matrix, masked_sums, means, per_class_accuracy
from cnnjax.tasks import classification, make_task
from cnnjax.types import Batch


def batch(label) -> Batch:
    label = jnp.asarray(label)
    return Batch(image=jnp.zeros((len(label), 1, 1, 1)), label=label, mask=jnp.ones(len(label)))


def test_cross_entropy_in_nats_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    got = classification()({"logits": logits}, batch([0, 1]))
    np.testing.assert_allclose(got["loss"], [np.log(2), -np.log(0.2)], rtol=1e-5)
    np.testing.assert_allclose(got["accuracy"], [1, 0])
    np.testing.assert_allclose(got["top5_accuracy"], [1, 1])


def test_label_smoothing_by_hand():
    p = np.array([0.5, 0.25, 0.25])
    got = classification(label_smoothing=0.3)({"logits": jnp.log(jnp.asarray(p)[None])}, batch([0]))
    np.testing.assert_allclose(got["loss"], [-(0.8 * np.log(0.5) + 0.1 * np.log(0.25) * 2)], rtol=1e-5)


def test_top5_counts_ranks_and_a_constant_network_scores_nothing():
    logits = jnp.arange(10.0)[None] * jnp.ones((10, 1))
    got = classification()({"logits": logits}, batch(np.arange(10)))
    np.testing.assert_allclose(got["accuracy"], [0] * 9 + [1])
    np.testing.assert_allclose(got["top5_accuracy"], [0] * 5 + [1] * 5)
    for broken in (jnp.zeros((10, 10)), jnp.full((10, 10), jnp.nan)):
        assert classification()({"logits": broken}, batch(np.arange(10)))["accuracy"].sum() == 0


def test_mixed_labels_are_probabilities():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    got = classification()({"logits": logits}, batch([[0.6, 0.4, 0.0]]))
    np.testing.assert_allclose(got["loss"], [-(0.6 * np.log(0.5) + 0.4 * np.log(0.25))], rtol=1e-5)
    np.testing.assert_allclose(got["accuracy"], [1])


def test_smoothing_is_for_training_only(tiny):
    section = tiny("task.label_smoothing=0.2").task
    outputs = {"logits": jnp.array([[2.0, 0.0, 0.0]])}
    train, evaluation = (make_task(section, train=t)(outputs, batch([0]))["loss"][0] for t in (True, False))
    assert evaluation < train
    with section.unlocked():
        section.name = "clasification"
    with pytest.raises(UsageError, match="did you mean 'classification'"):
        make_task(section, train=True)


def test_masked_sums_leave_padding_out_even_when_it_is_nan():
    sums = masked_sums({"loss": jnp.array([1.0, 3.0, jnp.nan])}, jnp.array([1.0, 1.0, 0.0]))
    assert [float(x) for x in sums["loss"]] == [4.0, 2.0]


def test_merging_sums_is_the_mean_over_all_examples():
    assert means([{"loss": (4.0, 2.0)}, {"loss": (5.0, 1.0)}]) == {"loss": 3.0}


def test_confusion_matrix_and_per_class_accuracy():
    label, prediction = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    matrix = confusion_matrix(label, prediction, 3)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [1, 2, 0], [0, 0, 0]])
    np.testing.assert_allclose(per_class_accuracy(matrix), [0.5, 2 / 3, np.nan])
    evaluation = Evaluation({"accuracy": np.array([1.0, 0.0]), "loss": np.array([1.0, 2.0])}, label, label, label)
    assert list(evaluation.summary().items()) == [("loss", 1.5), ("accuracy", 0.5)]
