# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.gradients import kernel_gradients
from cnnjax.models import get_model
from cnnjax.types import Batch, Model


def batch_of(image) -> Batch:
    count = len(image)
    return Batch(image=jnp.asarray(image), label=jnp.zeros(count, jnp.int32), mask=jnp.ones(count))


def test_a_chain_of_scalars_by_hand():
    """Logits = c * b * a * x: each gradient is the product of the others, in the order of use, not of names."""

    def apply(params, model_state, image, *, train, key=None):
        x = image.reshape(-1, 1)
        for name in ("z_first", "m_middle", "a_last"):
            x = x @ params[name]
        return {"logits": x + params["bias"]}, model_state

    params = {"a_last": 5.0 * jnp.ones((1, 1)), "m_middle": 3.0 * jnp.ones((1, 1)), "z_first": 2.0 * jnp.ones((1, 1))}
    model = Model(lambda key, image: ({**params, "bias": jnp.zeros((1, 1))}, {}), apply)
    measured = kernel_gradients(
        model,
        lambda outputs, batch: {"loss": outputs["logits"][:, 0]},
        *model.init(jax.random.key(0), jnp.zeros((2, 1, 1, 1))),
        batch_of(np.array([1.0, 3.0], np.float32).reshape(2, 1, 1, 1)),  # mean 2
    )
    assert [(g.name, g.norm) for g in measured[:3]] == [("z_first", 30.0), ("m_middle", 20.0), ("a_last", 12.0)]


def test_scanned_blocks_are_measured_one_by_one():
    image = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    model = get_model("resnet_cifar", {"depth": 20, "scan": True}, num_classes=3)
    params, model_state = model.init(jax.random.key(0), image)
    task = lambda outputs, batch: {"loss": -jax.nn.log_softmax(outputs["logits"])[:, 0]}  # noqa: E731
    measured = kernel_gradients(model, task, params, model_state, batch_of(image))
    expected = ["stem_conv/kernel"]
    expected += [f"stage{s}/block{b}/conv{c}/kernel" for s in (1, 2, 3) for b in (1, 2, 3) for c in (1, 2)]
    assert [g.name for g in measured] == [*expected, "output/kernel"]
    assert all(g.norm > 0 for g in measured)
    assert len({g.norm for g in measured}) == len(measured)
