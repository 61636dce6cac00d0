# SPDX-License-Identifier: Apache-2.0
import re

import jax
import pytest

from cnnjax import memory
from cnnjax.largest_batch import ROOM, largest, remedy
from cnnjax.memory import TooLarge
from cnnjax.parts import build
from cnnjax.training_run import train_run

NET = """
import jax, jax.numpy as jnp
from cnnjax.types import Model

def net(*, num_classes: int) -> Model:
    def init(key, image):
        return {"scale": jnp.ones((6, 2048)), "out": jax.random.normal(key, (2048, num_classes))}, {}

    def apply(params, model_state, image, *, train, key=None):
        x = jnp.tile(image.reshape(len(image), -1), (1, 2048 // image[0].size))
        for scale in params["scale"]:
            x = jnp.sort(jnp.tanh(x * scale[None]), axis=1)  # each layer is kept for the gradient
        return {"logits": x @ params["out"]}, model_state

    return Model(init, apply)
"""


@pytest.fixture
def wide(tiny, tmp_path):
    """`wide(*overrides)`: a config whose batch takes more memory than its network."""
    file = tmp_path / "net.py"
    file.write_text(NET)
    return lambda *overrides: tiny(f"model.name={file}:net", *overrides)


def needed(config) -> int:
    """Bytes that a step of `config` takes beside state and data."""
    training = build(config).training
    steps = training.steps_per_dispatch
    arguments = training.abstract_state, training.stream.arrays, training.stream.items(0, steps), steps
    found = memory.needed_bytes(training.dispatch.lower(*arguments).compile().memory_analysis(), arguments[:2])
    assert found is not None
    return found


def test_a_batch_that_does_not_fit_names_the_largest_that_does_and_accumulation(wide, tmp_path, monkeypatch):
    config = wide("data.batch_size=64")
    free = (needed(wide("data.batch_size=32")) + needed(config)) // 2
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    with pytest.raises(TooLarge) as caught:
        train_run(config, str(tmp_path / "run"), draws=False)
    told = re.fullmatch(
        r"a batch of 64: a step needs .* of memory, and .* are free; config\.data\.batch_size=(\d+) fits, and "
        r"config\.train\.accumulate=(\d+) does with the batch as it is",
        str(caught.value),
    )
    assert told and caught.value.exit_code == 2, str(caught.value)
    batch, accumulate = int(told[1]), int(told[2])
    assert 32 < batch < 64 and batch % jax.device_count() == 0
    assert needed(wide(f"data.batch_size={batch}")) <= free
    assert needed(wide(f"data.batch_size={batch + 4}")) > ROOM * free
    assert needed(wide("data.batch_size=64", f"train.accumulate={accumulate}")) <= free
    # What was refused leaves nothing behind that a smaller batch, in the same folder, would be taken for a change of.
    train_run(wide(f"data.batch_size={batch}", "train.num_steps=2"), str(tmp_path / "run"), draws=False)


def test_where_nothing_fits_or_the_step_itself_does_another_remedy_is_told(tiny, monkeypatch):
    parts = build(tiny())
    monkeypatch.setattr(memory, "free_bytes", lambda: 100)
    assert remedy(parts).startswith("not even the smallest batch fits")
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**40)
    assert remedy(parts) == "the step itself fits: lower config.data.eval_batch_size (16)"
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    assert remedy(parts) == "lower config.data.batch_size, or set config.train.accumulate"


def test_the_largest_batch_divides_over_devices_and_parts(tiny):
    parts = build(tiny("data.batch_size=48", "train.accumulate=3"))
    assert largest(parts, 2**40) == 48
    assert largest(parts, needed(tiny("data.batch_size=36", "train.accumulate=3"))) in (30, 36)
