# SPDX-License-Identifier: Apache-2.0
"""Images too small for a network: the layer that is named, and the smallest size, both worked out by hand."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

from cnnjax.errors import UsageError
from cnnjax.inspect.smallest import explain_size, find_problem
from cnnjax.inspect.summary import summarize
from cnnjax.layers import AvgPool, Conv
from cnnjax.models.adapter import from_linen
from cnnjax.models.check import check_model
from cnnjax.types import Model


def linen(forward) -> Model:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            return {"logits": forward(image)}

    return from_linen(Net())


def ours(x):
    x = AvgPool(2, name="pool")(Conv(2, 5, name="conv1")(x))
    x = Conv(2, 5, name="conv2")(x)
    return nn.Dense(3, name="output")(x.reshape(x.shape[0], -1))


def flax_mean(x):
    """Flows on with nothing, and ends in NaN."""
    x = nn.max_pool(nn.Conv(2, (5, 5), padding="VALID", name="conv1")(x), (2, 2), (2, 2))
    return nn.Dense(3, name="output")(nn.Conv(2, (5, 5), padding="VALID", name="conv2")(x).mean((1, 2)))


def flax_dense(x):
    """Ends in a dense layer without inputs, whose initialisation divides by 0 in some versions of Flax."""
    x = nn.max_pool(nn.Conv(2, (5, 5), padding="VALID", name="conv1")(x), (2, 2), (2, 2))
    x = nn.Conv(2, (5, 5), padding="VALID", name="conv2")(x)
    return nn.Dense(3, name="output")(x.reshape(x.shape[0], -1))


def pool_only(x):
    for _ in range(3):
        x = nn.max_pool(x, (2, 2), (2, 2))
    return nn.Dense(3, name="output")(x.mean((1, 2)))


# 14 - 4 = 10, halved 5, and 5 - 4 = 1 pixel is left; of 13 pixels, 4 are left, too few for a 5x5 window.
@pytest.mark.parametrize(
    ("forward", "what"),
    [
        (ours, "layer conv2: a 5x5 window needs a map of at least 5x5, and here it is 4x4 with its padding"),
        (flax_mean, "layer conv2 ("),
        (flax_dense, "layer conv2 "),  # with its line where the version of Flax takes no offence at no inputs
    ],
)
def test_the_layer_and_the_smallest_size(forward, what):
    model, message = linen(forward), explain_size(linen(forward), (13, 13, 1))
    assert message is not None
    assert message.startswith(f"an image of 13x13 is too small: {what}")
    assert message.endswith("; the smallest that works is 14x14")
    assert find_problem(model, (14, 14, 1)) is None
    assert explain_size(model, (14, 14, 1)) is None
    for check in (lambda: summarize(model, (13, 13, 1), "net"), lambda: check_model(model, (13, 13, 1), 3, name="net")):
        with pytest.raises(UsageError) as caught:
            check()
        assert str(caught.value) == f"model net: {message}"
    check_model(model, (14, 14, 1), 3, name="net")


def test_a_pooling_that_leaves_nothing():
    message = explain_size(linen(pool_only), (4, 4, 1))
    assert message is not None
    assert "layer pool (" in message
    assert "leaves an empty map, 0x0x1" in message
    assert message.endswith("is 8x8")


def test_the_proportions_are_kept():
    message = explain_size(linen(ours), (7, 10, 1))
    assert message is not None
    assert message.endswith("; the smallest of its proportions that works is 14x20")


def test_other_errors_are_not_blamed_on_the_size():
    def wrong(x):
        return nn.Dense(3)(x)[:, 0, 0] + jnp.ones((1, 4))

    assert explain_size(linen(wrong), (8, 8, 1)) is None
    with pytest.raises(UsageError, match="cannot be traced on a 8x8x1 image"):
        summarize(linen(wrong), (8, 8, 1), "net")


def test_an_empty_array_that_belongs_there_is_none_of_this():
    def forward(x):
        return nn.Dense(3)(jnp.concatenate([x[..., :0], x], -1).mean((1, 2)))

    check_model(linen(forward), (4, 4, 1), 3, name="net")
