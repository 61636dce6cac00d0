# SPDX-License-Identifier: Apache-2.0
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.config import load_config
from cnnjax.errors import UsageError
from cnnjax.optim import OPTIMIZERS, make_optimizer
from cnnjax.param_groups import Group, param_groups

PARAMS: Any = {
    "stem": {"kernel": jnp.array([[1.0, -2.0]])},
    "body": {"kernel": jnp.array([[3.0]]), "bias": jnp.array([0.5])},
    "output": {"kernel": jnp.array([[2.0]]), "bias": jnp.array([1.0])},
}
GRADS = jax.tree.map(lambda x: 0.5 * jnp.ones_like(x), PARAMS)


def config(*overrides: str):
    return load_config("experiments/default.py", [f"--config.{o}" for o in overrides])


def transformation(*overrides: str, first_step: int = 0, rate: Any = lambda step: 0.1, steps_per_epoch: float = 1.0):
    c = config(*overrides)
    groups = param_groups(c, PARAMS)
    return make_optimizer(c.optimizer, rate, groups, steps_per_epoch=steps_per_epoch, first_step=first_step)


def updates(tx: optax.GradientTransformation) -> Any:
    """The first ones; compiled as a whole, which takes less than operation by operation."""
    return jax.jit(lambda grads, params: tx.update(grads, tx.init(params), params)[0])(GRADS, PARAMS)


def test_groups_of_a_config():
    c = config(
        "freeze=*,!output", "unfreeze=body=2.5", "optimizer.factors=body/kernel=0.1,output=10", "optimizer.name=adam"
    )
    groups = param_groups(c, PARAMS)
    assert groups == {
        "stem/kernel": Group(1.0, None),
        "body/kernel": Group(0.1, 2.5),
        "body/bias": Group(1.0, 2.5),
        "output/kernel": Group(10.0, 0.0),
        "output/bias": Group(10.0, 0.0),
    }


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lars",)])
def test_a_factor_multiplies_the_update(name: str):
    plain = updates(transformation(f"optimizer.name={name}"))
    got = updates(transformation(f"optimizer.name={name}", "optimizer.factors=*=0.1,output=10,*/bias=3"))
    factors = {"stem": 0.1, "body": 0.1, "output": 10}
    for layer, leaves in got.items():
        for leaf, value in leaves.items():
            factor = 3 if leaf == "bias" else factors[layer]
            np.testing.assert_allclose(value, factor * plain[layer][leaf], rtol=1e-5)


def test_frozen_parameters_do_not_move_and_take_no_memory():
    tx = transformation("freeze=*,!output", "optimizer.name=adamw", "optimizer.weight_decay=0.1", "optimizer.l1=0.1")
    got = updates(tx)
    assert all(not np.any(x) for layer in ("stem", "body") for x in got[layer].values())
    assert all(np.all(x != 0) for x in got["output"].values())
    # Adam's two moments of the output's two numbers, and counts.
    assert sum(x.size for x in jax.tree.leaves(tx.init(PARAMS)) if x.ndim) == 4


def test_clipping_is_of_all_groups_together():
    got = updates(transformation("optimizer.clip_norm=0.01", "optimizer.factors=stem=2"))
    norm = 0.5 * np.sqrt(6)  # of six gradients of 0.5
    np.testing.assert_allclose(got["stem"]["kernel"], -0.1 * 2 * 0.5 * 0.01 / norm * np.ones((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "rmsprop", "sgd"])
def test_a_later_group_stands_still_then_follows_the_schedule_of_the_run(name: str):
    """From its first step on it moves as an optimizer of its own that begins there, at the run's rate there."""

    def rate(step: Any) -> Any:
        return 0.1 / (1 + jnp.asarray(step, jnp.float32))

    flags = (f"optimizer.name={name}", "freeze=body", "unfreeze=body=2")
    early, late = (transformation(*flags, rate=rate, steps_per_epoch=2, first_step=s) for s in (0, 4))
    state = early.init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(late.init(PARAMS))
    alone = make_optimizer(config(f"optimizer.name={name}").optimizer, lambda step: rate(step + 4))
    alone_state = alone.init(PARAMS["body"])
    first, then, by_itself = (jax.jit(tx.update) for tx in (early, late, alone))
    for step in range(7):
        got, state = (first if step < 4 else then)(GRADS, state, PARAMS)
        body: Any = got["body"]  # pyright: ignore[reportIndexIssue, reportCallIssue, reportArgumentType]
        if step < 4:
            assert not np.any(body["kernel"])
        else:
            wanted, alone_state = by_itself(GRADS["body"], alone_state, PARAMS["body"])
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), body, wanted)


def test_l2_sp_pulls_kernels_to_their_start_and_new_ones_to_0():
    c = config("optimizer.name=sgd", "optimizer.momentum=0", "optimizer.l2_sp=0.2", "optimizer.l2_sp_new=0.4")
    tx = make_optimizer(c.optimizer, lambda step: 0.1, param_groups(c, PARAMS), new={"output/kernel", "output/bias"})
    state = tx.init(PARAMS)
    moved = jax.tree.map(lambda p: p + 1, PARAMS)
    resumed = make_optimizer(c.optimizer, lambda step: 0.1, param_groups(c, PARAMS))  # knows nothing of the start
    got: Any = resumed.update(GRADS, state, moved)[0]
    np.testing.assert_allclose(got["stem"]["kernel"], np.full((1, 2), -0.1 * (0.5 + 0.2 * 1)), rtol=1e-6)
    np.testing.assert_allclose(got["output"]["kernel"], [[-0.1 * (0.5 + 0.4 * 3)]], rtol=1e-6)
    np.testing.assert_allclose(got["body"]["bias"], [-0.1 * 0.5], rtol=1e-6)
    with pytest.raises(UsageError, match="set one of them to 0"):
        transformation("optimizer.l2_sp=0.1", "optimizer.weight_decay=0.1")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("freeze=*",), "config.freeze freezes all 5 parameters: there is nothing to train; leave the output out"),
        (("freeze=*", "unfreeze=output=1"), "nothing to train before epoch 1"),
        (("freeze=conv*",), "config.freeze: 'conv*' matches no parameter; there are"),
        (("unfreeze=stem=1",), "config.unfreeze is set, but config.freeze freezes nothing"),
        (("freeze=stem", "unfreeze=body=1"), "'body' matches no parameter of those that config.freeze freezes; there"),
        (("freeze=stem", "optimizer.factors=stem=2"), "'stem' matches no parameter of those that are trained; there"),
        (("freeze=stem", "unfreeze=stem"), "'stem' is not of the form PATTERN=EPOCH"),
        (("optimizer.factors=body=1,*=2",), "'body' decides nothing"),
    ],
)
def test_contradictions_are_one_clear_line(overrides: tuple[str, ...], message: str):
    with pytest.raises(UsageError) as error:
        param_groups(config(*overrides), PARAMS)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_words_come_bare_or_as_a_tuple():
    assert config("freeze=stem*, stage1/*").freeze == ("stem*", "stage1/*")
    assert config("freeze=('stem*','stage1/*')").freeze == ("stem*", "stage1/*")
    assert config("data.labels=cat").data.labels == ("cat",)
    assert config("freeze=").freeze == ()


def test_decay_factors_scale_weight_decay_and_l1_alone():
    terms = ("optimizer.weight_decay=0.1", "optimizer.l1=0.01", "optimizer.decay=all")
    got = updates(transformation(*terms, "optimizer.decay_factors=*/bias=0.5,stem=0"))
    np.testing.assert_allclose(got["stem"]["kernel"], [[-0.05, -0.05]], rtol=1e-6)
    np.testing.assert_allclose(got["body"]["kernel"], [[-0.1 * (0.5 + 0.3 + 0.01)]], rtol=1e-6)
    np.testing.assert_allclose(got["body"]["bias"], [-0.1 * (0.5 + 0.5 * (0.05 + 0.01))], rtol=1e-6)
    name = ("optimizer.name=adamw", "optimizer.decay=all", "optimizer.weight_decay=0.1")
    whole, half, none = (updates(transformation(*name, f"optimizer.decay_factors=output={f}")) for f in (1, 0.5, 0))
    ratio = (half["output"]["bias"] - none["output"]["bias"]) / (whole["output"]["bias"] - none["output"]["bias"])
    np.testing.assert_allclose(ratio, 0.5, rtol=1e-3)
    np.testing.assert_array_equal(half["stem"]["kernel"], whole["stem"]["kernel"])


def test_parameters_stand_still_after_their_epoch():
    """Momentum included: what stands still gets no update, the others go on as if nothing were."""
    plain, tx = transformation(), transformation("optimizer.freeze_after=stem=1.5", steps_per_epoch=2.0)

    advance, advance_plain = jax.jit(tx.update), jax.jit(plain.update)
    wanted, state = plain.init(PARAMS), tx.init(PARAMS)
    for step in range(5):
        other, wanted = advance_plain(GRADS, wanted, PARAMS)
        got, state = advance(GRADS, state, PARAMS)
        np.testing.assert_allclose(got["body"]["kernel"], other["body"]["kernel"])
        if step < 3:
            np.testing.assert_allclose(got["stem"]["kernel"], other["stem"]["kernel"])
        else:
            assert not got["stem"]["kernel"].any()


def test_freezing_before_training_is_told():
    with pytest.raises(UsageError, match=r"stem/kernel at epoch 0, before .* config\.freeze instead"):
        transformation("optimizer.freeze_after=stem=0")
    with pytest.raises(UsageError, match=r"decay_factors: 'norm' matches no parameter of those that are trained"):
        transformation("optimizer.decay_factors=norm=2")
