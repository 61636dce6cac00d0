# SPDX-License-Identifier: Apache-2.0
"""What is chosen for a network where the config leaves it open."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from cnnjax.errors import UsageError
from cnnjax.experiment import _steps_per_dispatch, make_plan
from cnnjax.models import get_model
from cnnjax.step import init_state, make_train_step
from cnnjax.tasks import classification
from cnnjax.types import Batch, Model


def by_lax(*, num_classes: int) -> Model:
    """One convolution of jax.lax itself."""

    def init(key, image):
        return {"kernel": jnp.zeros((3, 3, image.shape[-1], num_classes))}, {}

    def apply(params, model_state, image, *, train, key=None):
        maps = jax.lax.conv_general_dilated(
            image, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return {"logits": maps.mean((1, 2))}, model_state

    return Model(init, apply)


@pytest.mark.parametrize(
    ("model", "batch", "steps"),
    [
        (get_model("mlp", {"hidden": (8,)}, num_classes=10), 128, 50),
        (get_model("lenet5", {}, num_classes=10), 128, 50),
        (get_model("lenet5", {}, num_classes=10), 1024, 1),  # 0.4 M x 1,024 x 3 x 8 steps are over 10^10 multiply-adds
        (get_model("resnet_cifar", {"depth": 8}, num_classes=10), 128, 1),
        (by_lax(num_classes=10), 2, 1),
    ],
    ids=["mlp", "lenet5", "large batch", "resnet", "lax"],
)
def test_small_networks_take_many_steps_in_a_call_on_a_cpu(model, batch: int, steps: int):
    tx, key = optax.sgd(0.1), jax.random.key(0)
    images: Any = jax.ShapeDtypeStruct((batch, 32, 32, 3 if steps == 1 else 1), jnp.float32)
    numbers: Any = jax.ShapeDtypeStruct((batch,), jnp.int32)
    state = jax.eval_shape(lambda: init_state(model, tx, jnp.zeros((1, *images.shape[1:])), key, ema=False))
    step = make_train_step(model, classification(), tx, lambda key, batch: batch)
    arguments = state, Batch(image=images, label=numbers, mask=numbers), key
    assert _steps_per_dispatch(step, arguments, 50) == steps
    assert _steps_per_dispatch(step, arguments, 1) == 1


@pytest.mark.parametrize("every", [1e-9, 1e-3])
def test_absurdly_many_checkpoints_are_refused(tiny, every):
    """Each is a number in memory; and an interval that rounds to no step at all would never end."""
    train = tiny("train.num_steps=2000000000").train
    with train.unlocked():
        train.checkpoint_every_steps, train.checkpoint_every_epochs = None, every
    with pytest.raises(UsageError, match=r"config\.train\.checkpoint_every_\*: more than 100,000 times"):
        make_plan(train, 6.0)
