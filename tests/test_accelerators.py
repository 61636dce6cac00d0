# SPDX-License-Identifier: Apache-2.0
"""What a GPU or TPU is given, read from the program that a CPU-only machine lowers for it."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import devices
from cnnjax.data import load_dataset
from cnnjax.experiment import Training, build_model, build_training

SMALL = (
    "train.dtype=bfloat16",
    "train.num_steps=2",
    "data.synthetic.image_shape=(12,12,3)",
    "task.label_smoothing=0.2",
)
NETWORKS = {
    "airbench": ("model.name=airbench", "model.widths=(8,)", "optimizer.lookahead=5", "augment.fill=reflect"),
    "resnet_cifar": ("model.name=resnet_cifar", "model.depth=8"),
}


def training(config: Any) -> Training:
    dataset = load_dataset(config.data)
    return build_training(config, build_model(config, len(dataset.label_names)), dataset, devices.make_mesh())


def call(parts: Training) -> tuple[Any, ...]:
    steps = parts.steps_per_dispatch
    return parts.abstract_state, parts.stream.arrays, parts.stream.items(0, steps), steps


@pytest.fixture(scope="module")
def lowered():
    """`lowered(config)`: the text of its training step for a GPU."""
    texts: dict[str, str] = {}

    def lower(config: Any) -> str:
        name = config.model.name
        if name not in texts:
            parts = training(config)
            texts[name] = parts.dispatch.trace(*call(parts)).lower(lowering_platforms=("cuda",)).as_text()
        return texts[name]

    return lower


@pytest.mark.parametrize("name", list(NETWORKS))
def test_convolutions_and_products_are_native_and_bfloat16(tiny, lowered, name: str):
    text = lowered(tiny(*SMALL, *NETWORKS[name], "augment.mirror=0.5", "augment.shift=1"))
    products = re.findall(r"stablehlo\.(convolution|dot_general)\b.* : \((.*), (.*)\) -> (.*)", text)
    assert {kind for kind, *_ in products} == {"convolution", "dot_general"}
    for kind, *operands in products:
        assert all(re.search(r"xbf16>", operand) for operand in operands), (kind, operands)
    assert "f64" not in text and "custom_call @" not in text.replace("custom_call @Sharding", "")


def test_no_gradient_is_computed_of_the_whitening_filters(tiny, lowered):
    """Three convolutions forward; of the two that are learnt a gradient of the kernel and of the input each."""
    text = lowered(tiny(*SMALL, *NETWORKS["airbench"]))
    assert len(re.findall(r"stablehlo\.convolution\b", text)) == 3 + 2 * 2


@pytest.mark.parametrize("name", list(NETWORKS))
def test_what_is_kept_and_what_is_summed_is_float32(tiny, name: str):
    parts = training(tiny(*SMALL, *NETWORKS[name], "train.ema_decay=0.9"))
    state, rows = jax.eval_shape(parts.dispatch, *call(parts))
    kept = {jax.tree_util.keystr(path): x.dtype for path, x in jax.tree_util.tree_leaves_with_path((state, rows))}
    assert {str(dtype) for dtype in kept.values()} <= {"float32", "int32"}, kept
    model = parts.model
    params, model_state = parts.abstract_state.params, parts.abstract_state.model_state
    image = jax.ShapeDtypeStruct((4, 12, 12, 3), jnp.float32)
    traced = jax.make_jaxpr(lambda p, s, x: model.apply(p, s, x, train=True))(params, model_state, image)
    sums = re.findall(r":(\w+)\[[^\]]*\] = (reduce_sum|reduce_max|exp|log|rsqrt|sqrt|square)\b", str(traced))
    # Moments of BatchNorm and the mean over a map are sums; a maximum may stay in bfloat16.
    assert {dtype for dtype, operation in sums if operation != "reduce_max"} == {"f32"}, sums
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), image)))


def test_the_state_is_donated(tiny):
    parts = training(tiny())
    state = parts.init()
    count = len(jax.tree.leaves(state))
    text = parts.dispatch.lower(*call(parts)).as_text()
    assert len(re.findall(r"tf\.aliasing_output|jax\.buffer_donor", text)) >= count
    new, _ = parts.dispatch(state, *call(parts)[1:])
    jax.block_until_ready(new)
    assert all(x.is_deleted() for x in jax.tree.leaves(state) if x.size)
    assert np.isfinite(jax.device_get(new.params["output"]["kernel"])).all()
