# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import pytest

from cnnjax.architectures import timing
from cnnjax.models import get_model
from cnnjax.types import Model


def test_the_time_of_an_image_is_the_median_call_by_the_batch(monkeypatch: pytest.MonkeyPatch):
    # Each call takes one second by this clock; the first two, of the warm-up, a thousand.
    ticks = iter([t for call in range(9) for t in (0.0, 1000.0 if call < 2 else 1.0 if call != 4 else 50.0)])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    assert timing.seconds_per_image(get_model("mlp", {"hidden": (4,)}, num_classes=3), (4, 4, 1), 8) == 1 / 8


def test_random_weights_keep_a_deep_network_finite():
    seen = []
    model = get_model("resnet_cifar", {"depth": 8}, num_classes=3)

    def apply(params, model_state, image, *, train, key=None):
        outputs, model_state = model.apply(params, model_state, image, train=train, key=key)
        jax.debug.callback(seen.append, outputs["logits"])
        return outputs, model_state

    assert timing.seconds_per_image(Model(model.init, apply), (8, 8, 3), 2) > 0
    jax.effects_barrier()
    assert seen[0].shape == (2, 3) and jnp.isfinite(seen[0]).all()
    assert jnp.abs(seen[0]).max() > 1e-3


def test_the_machine_is_named():
    assert "cores" in timing.machine()
