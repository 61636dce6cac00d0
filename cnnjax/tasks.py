# SPDX-License-Identifier: Apache-2.0
"""What a network is trained for: from outputs and a batch to per-example losses and metrics."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from cnnjax.errors import UsageError, unknown
from cnnjax.ssim import ssim
from cnnjax.types import Array, Batch, Config, Outputs, Task

TASKS = ("classification", "reconstruction")


def classification(*, loss: str = "cross_entropy", label_smoothing: float = 0.0) -> Task:
    """A loss, `accuracy` and `top5_accuracy` (0 or 1); K <= 5 makes the last always 1.

    `label` is [B] int32, or [B,K] probabilities when classes are mixed; the likeliest class then counts as the
    true one. Label smoothing as in Szegedy et al. 2016 (arXiv:1512.00567), section 7.

    Args:
      loss: "cross_entropy", of the softmax, in nats; or "squared_error", of the logits as they are against +1 for
        the true class and -1 for the others, the mean over the K classes (LeCun et al. 1989, Neural Computation
        1(4), 541-551).
      label_smoothing: probability taken from the true class and spread over all K, before either loss.

    Raises:
      UsageError: no such loss. The returned function: the network gives no `logits`.
    """
    per_example = _find("config.task.loss", loss, _CLASSIFICATION_LOSSES)

    def task(outputs: Outputs, batch: Batch) -> dict[str, Array]:
        logits, label = _output(outputs, "logits", "classification"), batch["label"]
        num_classes = logits.shape[-1]
        target = label if label.ndim == 2 else jax.nn.one_hot(label, num_classes)
        truth = jnp.argmax(target, axis=-1)
        true_logit = jnp.take_along_axis(logits, truth[:, None], axis=-1)
        # Ties and NaN count against the truth, so that a constant or broken network does not score.
        rank = jnp.sum(~(logits < true_logit), axis=-1) - 1
        return {
            "loss": per_example(logits, optax.smooth_labels(target, label_smoothing)),
            "accuracy": (rank < 1).astype(jnp.float32),
            "top5_accuracy": (rank < min(5, num_classes)).astype(jnp.float32),
        }

    return task


def reconstruction(
    *,
    loss: str = "mse",
    ssim_weight: float = 0.0,
    kl_weight: float = 0.0,
    sparsity: str = "l1",
    sparsity_weight: float = 0.0,
    sparsity_target: float = 0.05,
    report_ssim: bool = False,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> Task:
    """How well `recon` [B,H,W,C] repeats the picture that the network was given: a loss, `mse` and `psnr`.

    Pixels are in 0..1, of the picture and of `recon`, however the network's input is normalised: the picture is
    the input with the normalisation undone, augmentation included; of a batch with noise of the input it is
    `clean`, the picture without it (denoising). `mse` is the mean square over an image's pixels and channels;
    `psnr` = 10 log10(1 / mse) in dB, of each image by itself, 100 at most.

    Args:
      loss: "mse"; or "bce", the cross-entropy of a pixel taken as the probability of white, in nats, the mean over
        an image (a perfect copy of gray pixels has a loss above 0); for a network that ends in a sigmoid.
      ssim_weight: times 1 - SSIM is added to that; above 0, `ssim` is reported.
      kl_weight: of a variational network, one with `latent_mean` and `latent_log_variance`: times the divergence of
        its latent from a standard normal, in nats over the values of a picture, is added; reported as `kl`, in nats.
        With "bce" and 1 the loss is the negative evidence lower bound of Kingma and Welling 2014 (arXiv:1312.6114),
        equation 10, over the number of values; with "mse" it is that of Gaussian pixels of variance 1 / 2, but for a
        constant.
      sparsity: "l1", the mean |latent| of an example; or "kl", by the mean p over the batch of the sigmoid of each
        unit, target log(target / p) + (1 - target) log((1 - target) / (1 - p)), the mean over the units, the same
        for each example (Ng, CS294A lecture notes, 2011).
      sparsity_weight: times which it is added, reported as `sparsity`; 0: neither.
      sparsity_target: of "kl".
      report_ssim: report `ssim`, whatever the loss.
      mean: of the normalisation, `config.data.mean`.
      std: of the normalisation, `config.data.std`.

    Raises:
      UsageError: no such loss. The returned function: the network gives no `recon`, or one of another shape.
    """
    per_pixel = _find("config.task.reconstruction_loss", loss, _RECONSTRUCTION_LOSSES)
    penalty = _find("config.task.sparsity", sparsity, _SPARSITIES)

    def task(outputs: Outputs, batch: Batch) -> dict[str, Array]:
        recon, image = _output(outputs, "recon", "reconstruction"), batch.get("clean", batch["image"])
        if recon.shape != image.shape:
            raise UsageError(
                f"the network turns pictures {image.shape[1:]} into recon {recon.shape[1:]}; make them equal"
            )
        shift, scale = (jnp.asarray(numbers, image.dtype).reshape(1, 1, 1, -1) for numbers in (mean, std))
        picture = image * scale + shift
        mse = jnp.mean(jnp.square(recon - picture), axis=(1, 2, 3))
        total = jnp.mean(per_pixel(recon, picture), axis=(1, 2, 3))
        values = {"mse": mse, "psnr": -10 * jnp.log10(jnp.maximum(mse, _LEAST_MSE))}
        if ssim_weight or report_ssim:
            values["ssim"] = ssim(recon, picture)
            total = total + ssim_weight * (1 - values["ssim"])
        if "latent_log_variance" in outputs:
            values["kl"] = _normal_divergence(outputs["latent_mean"], outputs["latent_log_variance"])
            total = total + kl_weight * values["kl"] / picture[0].size
        if sparsity_weight:
            values["sparsity"] = penalty(_output(outputs, "latent", "reconstruction"), batch["mask"], sparsity_target)
            total = total + sparsity_weight * values["sparsity"]
        return {"loss": total, **values}

    return task


def weigh_classes(task: Task, weight: Sequence[float]) -> Task:
    """`task` with the loss of each example multiplied by `weight` [K] of its class; of a mixed label by its mean."""

    def weighed(outputs: Outputs, batch: Batch) -> dict[str, Array]:
        values, label, weights = task(outputs, batch), batch["label"], jnp.asarray(weight, jnp.float32)
        return {**values, "loss": values["loss"] * (label @ weights if label.ndim == 2 else weights[label])}

    return weighed


def balanced_weights(count: Sequence[int]) -> list[float]:
    """N / (K * count) of each class, [K]: every class weighs the same in the loss, and an example 1 on average.

    Args:
      count: training examples of each class, all above 0, N in all.

    Reference: King and Zeng 2001, Logistic regression in rare events data, Political Analysis 9(2).
    """
    return [sum(count) / (len(count) * each) for each in count]


def make_task(task: Config, data: Config, *, train: bool) -> Task:
    """The task of `config.task`; label smoothing and sparsity belong to training and leave evaluation alone.

    `data` is `config.data`, which knows how the network's input is normalised.
    """
    if task.name == "classification":
        return classification(loss=task.loss, label_smoothing=task.label_smoothing if train else 0.0)
    if task.name == "reconstruction":
        return reconstruction(
            loss=task.reconstruction_loss,
            ssim_weight=task.ssim_weight,
            kl_weight=task.kl_weight,
            sparsity=task.sparsity,
            sparsity_weight=task.sparsity_weight if train else 0.0,
            sparsity_target=task.sparsity_target,
            report_ssim=not train,
            mean=data.mean,
            std=data.std,
        )
    raise UsageError(unknown("config.task.name", task.name, TASKS))


def _output(outputs: Outputs, name: str, task: str) -> Array:
    if name not in outputs:
        others = {"logits": "classification", "recon": "reconstruction"}
        fitting = [other for output, other in others.items() if output in outputs]
        remedy = f"; this one is for config.task.name={fitting[0]}" if fitting else ""
        raise UsageError(f"the task {task} needs a network with the output {name!r}{remedy}")
    return outputs[name]


def _find(key: str, name: str, known: dict[str, Callable[..., Array]]) -> Callable[..., Array]:
    if name not in known:
        raise UsageError(unknown(key, name, known))
    return known[name]


def _squared_error(logits: Array, target: Array) -> Array:
    """[B], against the probabilities `target` [B,K] stretched from 0..1 to -1..1."""
    return jnp.mean(jnp.square(logits - (2 * target - 1)), axis=-1)


def _binary_cross_entropy(recon: Array, picture: Array) -> Array:
    """Elementwise, finite: `recon` is kept from 0 and 1 by about as much as float32 can tell."""
    recon = jnp.clip(recon, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return -(picture * jnp.log(recon) + (1 - picture) * jnp.log1p(-recon))


def _normal_divergence(mean: Array, log_variance: Array) -> Array:
    """KL of N(mean, exp(log_variance)) from N(0, 1), both [B,D], the sum over D in nats: [B].

    Reference: Kingma and Welling 2014, appendix B.
    """
    return jnp.sum(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance, axis=-1) / 2


def _mean_size(latent: Array, mask: Array, target: float) -> Array:
    del mask, target
    return jnp.mean(jnp.abs(latent), axis=-1)


def _activity_divergence(latent: Array, mask: Array, target: float) -> Array:
    """How far the units' mean activity over the batch, padding left out, is from `target`: one number [B] times."""
    weights = (mask / jnp.maximum(jnp.sum(mask), 1))[:, None]
    activity = jnp.clip(jnp.sum(weights * jax.nn.sigmoid(latent), axis=0), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    on, off = target * jnp.log(target / activity), (1 - target) * jnp.log((1 - target) / (1 - activity))
    return jnp.broadcast_to(jnp.mean(on + off), mask.shape)


_LEAST_PROBABILITY = 1e-7
_LEAST_MSE = 1e-10  # 100 dB; a perfect copy would be infinitely many
_CLASSIFICATION_LOSSES = {"cross_entropy": optax.softmax_cross_entropy, "squared_error": _squared_error}
_SPARSITIES = {"l1": _mean_size, "kl": _activity_divergence}
_RECONSTRUCTION_LOSSES = {"mse": optax.squared_error, "bce": _binary_cross_entropy}
