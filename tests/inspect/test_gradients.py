# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.gradients import kernel_gradients, order_of_use
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


def test_scanned_blocks_come_one_by_one():
    model = get_model("resnet_cifar", {"depth": 20, "scan": True}, num_classes=3)
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    params, model_state = jax.eval_shape(model.init, jax.random.key(0), image)
    assert "block2-3" in params["stage1"]
    kernels = [name for name in order_of_use(model, params, model_state, image) if name.endswith("/kernel")]
    expected = ["stem_conv/kernel"]
    expected += [f"stage{s}/block{b}/conv{c}/kernel" for s in (1, 2, 3) for b in (1, 2, 3) for c in (1, 2)]
    assert kernels == [*expected, "output/kernel"]
