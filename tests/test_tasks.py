# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import tasks
from cnnjax.errors import UsageError
from cnnjax.metrics import Evaluation, confusion_matrix, format_metric, masked_sums, means, per_class_accuracy
from cnnjax.tasks import balanced_weights
from cnnjax.types import Batch, Config

# Each operation by itself takes a compilation, and a task has dozens; here each is compiled as a whole.


def classification(**options: Any) -> Callable[..., Any]:
    return jax.jit(tasks.classification(**options))


def reconstruction(**options: Any) -> Callable[..., Any]:
    return jax.jit(tasks.reconstruction(**options))


def make_task(section: Config, data: Config, *, train: bool) -> Callable[..., Any]:
    return jax.jit(tasks.make_task(section, data, train=train))


def weigh_classes(task: Any, weights: Sequence[float]) -> Callable[..., Any]:
    return jax.jit(tasks.weigh_classes(task, weights))


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
    config = tiny("task.label_smoothing=0.2")
    section, data = config.task, config.data
    outputs = {"logits": jnp.array([[2.0, 0.0, 0.0]])}
    train, evaluation = (make_task(section, data, train=t)(outputs, batch([0]))["loss"][0] for t in (True, False))
    assert evaluation < train
    with section.unlocked():
        section.name = "clasification"
    with pytest.raises(UsageError, match="did you mean 'classification'"):
        make_task(section, data, train=True)


def test_squared_error_by_hand():
    logits = jnp.array([[0.5, -1.0], [1.0, -1.0]])
    got = classification(loss="squared_error")({"logits": logits}, batch([0, 1]))
    np.testing.assert_allclose(got["loss"], [(0.25 + 0.0) / 2, (4 + 4) / 2], rtol=1e-6)
    np.testing.assert_allclose(got["accuracy"], [1, 0])
    # A label smoothed by 0.2 over two classes is 0.9 and 0.1, so the targets are +0.8 and -0.8.
    smooth = classification(loss="squared_error", label_smoothing=0.2)({"logits": logits}, batch([0, 1]))
    np.testing.assert_allclose(smooth["loss"], [(0.09 + 0.04) / 2, (1.8**2 + 1.8**2) / 2], rtol=1e-5)
    mixed = classification(loss="squared_error")({"logits": logits[:1]}, batch([[0.75, 0.25]]))
    np.testing.assert_allclose(mixed["loss"], [0.25 / 2], rtol=1e-6)
    with pytest.raises(UsageError, match=r"unknown config\.task\.loss 'squared'; did you mean 'squared_error'"):
        classification(loss="squared")


def pictures(values) -> Batch:
    """Images of 1x2 gray pixels."""
    image = jnp.asarray(values, jnp.float32).reshape(-1, 1, 2, 1)
    return Batch(image=image, label=jnp.zeros(len(image), jnp.int32), mask=jnp.ones(len(image)))


def test_reconstruction_by_hand():
    recon = jnp.array([[0.5, 0.5], [0.1, 1.0]]).reshape(2, 1, 2, 1)
    images = pictures([[0.0, 1.0], [0.0, 1.0]])
    got = reconstruction()({"recon": recon}, images)
    np.testing.assert_allclose(got["mse"], [0.25, 0.005], rtol=1e-5)
    np.testing.assert_allclose(got["loss"], got["mse"])
    np.testing.assert_allclose(got["psnr"], [10 * np.log10(4), 10 * np.log10(200)], rtol=1e-5)
    bce = reconstruction(loss="bce")({"recon": recon}, images)
    np.testing.assert_allclose(bce["loss"], [np.log(2), -np.log(0.9) / 2], rtol=1e-5)
    np.testing.assert_allclose(bce["mse"], got["mse"])


def test_reconstruction_is_of_pixels_in_0_to_1_however_the_input_is_normalised():
    recon, stored = jnp.array([0.25, 0.75]).reshape(1, 1, 2, 1), np.array([[0.0, 1.0]])
    plain = reconstruction()({"recon": recon}, pictures(stored))
    shifted = reconstruction(mean=(0.5,), std=(0.25,))({"recon": recon}, pictures((stored - 0.5) / 0.25))
    for name, value in plain.items():
        np.testing.assert_allclose(shifted[name], value, rtol=1e-5)


def test_perfect_and_hopeless_pictures_stay_finite():
    image = pictures([[0.0, 1.0]])
    for loss in ("mse", "bce"):
        task = reconstruction(loss=loss)
        assert task({"recon": image["image"]}, image)["psnr"] == 100
        gradient = jax.grad(lambda x: task({"recon": x}, image)["loss"].sum())(1 - image["image"])  # noqa: B023
        assert np.isfinite(task({"recon": 1 - image["image"]}, image)["loss"]).all() and np.isfinite(gradient).all()


def test_the_similarity_term_by_hand_and_its_report():
    flat = {"recon": jnp.full((1, 12, 12, 1), 0.75)}
    image = Batch(image=jnp.full((1, 12, 12, 1), 0.25), label=jnp.zeros(1, jnp.int32), mask=jnp.ones(1))
    similarity = (2 * 0.1875 + 1e-4) / (0.0625 + 0.5625 + 1e-4)
    got = reconstruction(ssim_weight=0.5)(flat, image)
    np.testing.assert_allclose([got["ssim"][0], got["loss"][0]], [similarity, 0.25 + 0.5 * (1 - similarity)], rtol=1e-4)
    assert "ssim" not in reconstruction()(flat, image)
    reported = reconstruction(report_ssim=True)(flat, image)
    assert reported["loss"] == reported["mse"] and reported["ssim"] == got["ssim"]


def test_a_denoising_network_is_compared_with_the_clean_picture():
    clean, recon = pictures([[0.0, 1.0]]), {"recon": jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)}
    noisy = Batch(**{**pictures([[0.3, 0.6]]), "clean": clean["image"]})
    assert reconstruction()(recon, noisy)["mse"] == 0
    assert reconstruction()(recon, clean | {"clean": noisy["image"]})["mse"] > 0.01  # pyright: ignore[reportArgumentType]


def test_the_divergence_of_a_variational_latent_by_hand():
    image = pictures([[0.0, 1.0], [0.0, 1.0]])
    # N(0, 1) is 0 nats away; N(1, e) in one of two dimensions (1 + e - 1 - 1) / 2.
    outputs = {
        "recon": image["image"],
        "latent_mean": jnp.array([[0.0, 0.0], [1.0, 0.0]]),
        "latent_log_variance": jnp.array([[0.0, 0.0], [1.0, 0.0]]),
    }
    got = reconstruction(kl_weight=3.0)(outputs, image)
    np.testing.assert_allclose(got["kl"], [0, (np.e - 1) / 2], rtol=1e-5)
    np.testing.assert_allclose(got["loss"], 3 * got["kl"] / 2, rtol=1e-5)  # a picture has 2 values
    # Against the definition: the mean of log q(z) - log p(z) under q, by quadrature.
    z = np.linspace(-15, 20, 20001)
    log_q, log_p = -((z - 1) ** 2) / (2 * np.e) - 0.5, -(z**2) / 2
    q = np.exp(log_q) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(got["kl"][1], np.sum(q * (log_q - log_p)) * (z[1] - z[0]), rtol=1e-3)


def test_sparsity_by_hand_padding_left_out():
    image = pictures([[0.0, 1.0]] * 3)
    image["mask"] = jnp.array([1.0, 1.0, 0.0])
    logit = np.log(0.4 / 0.6)
    outputs = {"recon": image["image"], "latent": jnp.array([[0.0, -2.0], [logit, 4.0], [9.0, 9.0]])}
    l1 = reconstruction(sparsity_weight=0.1)(outputs, image)
    np.testing.assert_allclose(l1["sparsity"][:2], [1.0, (4 - logit) / 2], rtol=1e-5)
    np.testing.assert_allclose(l1["loss"], 0.1 * l1["sparsity"], rtol=1e-5)
    kl = reconstruction(sparsity="kl", sparsity_weight=2.0, sparsity_target=0.2)(outputs, image)
    p = np.array([0.45, (1 / (1 + np.exp(2)) + 1 / (1 + np.exp(-4))) / 2])  # 0.45: the mean of 0.5 and 0.4
    wanted = np.mean(0.2 * np.log(0.2 / p) + 0.8 * np.log(0.8 / (1 - p)))
    np.testing.assert_allclose(kl["sparsity"], wanted, rtol=1e-5)
    np.testing.assert_allclose(kl["loss"], 2 * wanted, rtol=1e-5)
    with pytest.raises(UsageError, match=r"unknown config\.task\.sparsity 'l2'"):
        reconstruction(sparsity="l2")


def test_a_task_that_does_not_fit_the_network_says_which_does():
    recon, logits = {"recon": jnp.zeros((1, 1, 2, 1))}, {"logits": jnp.zeros((1, 3))}
    with pytest.raises(UsageError, match=r"needs .*'logits'; this one is for config.task.name=reconstruction"):
        classification()(recon, batch([0]))
    with pytest.raises(UsageError, match=r"needs .*'recon'; this one is for config.task.name=classification"):
        reconstruction()(logits, pictures([[0.0, 1.0]]))
    with pytest.raises(UsageError, match=r"pictures \(1, 2, 1\) into recon \(1, 1, 1\)"):
        reconstruction()({"recon": jnp.zeros((1, 1, 1, 1))}, pictures([[0.0, 1.0]]))
    with pytest.raises(UsageError, match=r"unknown config\.task\.reconstruction_loss 'mae'"):
        reconstruction(loss="mae")


def test_the_task_of_a_config(tiny):
    config = tiny("task.name=reconstruction", "task.reconstruction_loss=bce", "data.mean=(0.5,)", "data.std=(0.5,)")
    recon = jnp.full((1, 1, 2, 1), 0.5)
    got = make_task(config.task, config.data, train=True)({"recon": recon}, pictures([[-1.0, 1.0]]))
    np.testing.assert_allclose([got["loss"][0], got["mse"][0]], [np.log(2), 0.25], rtol=1e-5)


def test_sparsity_is_for_training_and_similarity_always_reported(tiny):
    config = tiny("task.name=reconstruction", "task.sparsity_weight=1", "task.sparsity=kl")
    outputs = {"recon": jnp.zeros((1, 1, 2, 1)), "latent": jnp.zeros((1, 3))}
    names = [set(make_task(config.task, config.data, train=t)(outputs, pictures([[0, 1]]))) for t in (True, False)]
    assert names[0] - names[1] == {"sparsity"} and names[1] - names[0] == {"ssim"}


def test_metrics_as_tables_show_them():
    shown = [format_metric(name, 0.12345) for name in ("loss", "accuracy", "top5_accuracy", "mse", "psnr")]
    assert shown == ["0.1235", "12.35%", "12.35%", "0.12345", "0.12 dB"]


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


def test_class_weights_by_hand():
    assert balanced_weights([6, 2, 4]) == [12 / 18, 2.0, 1.0]  # on average (6 * 2/3 + 2 * 2 + 4 * 1) / 12 = 1
    logits = jnp.zeros((3, 3))
    plain, weighed = classification(), weigh_classes(classification(), [12 / 18, 2.0, 1.0])
    before, after = (task({"logits": logits}, batch([0, 1, 2])) for task in (plain, weighed))
    np.testing.assert_allclose(after["loss"], np.log(3) * np.array([12 / 18, 2, 1]), rtol=1e-6)
    np.testing.assert_array_equal(after["accuracy"], before["accuracy"])
    mixed = weighed({"logits": logits[:1]}, batch([[0.5, 0.5, 0.0]]))
    np.testing.assert_allclose(mixed["loss"], [np.log(3) * (12 / 18 + 2) / 2], rtol=1e-6)
