# SPDX-License-Identifier: Apache-2.0
"""Each complaint of check_model on a model that breaks just that, and none on good models of three libraries."""

import itertools
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import io_callback

from cnnjax.errors import UsageError
from cnnjax.models import get_model
from cnnjax.models.adapter import compute_in, from_linen
from cnnjax.models.check import check_model, check_named, check_shipped
from cnnjax.types import Model

SHAPE, K = (8, 8, 1), 10
FILE = Path(__file__).relative_to(Path.cwd()) if Path(__file__).is_relative_to(Path.cwd()) else Path(__file__)
_count = itertools.count(1)


def place(mark: str) -> str:
    """The line of this file that ends in the comment `# at MARK`, as messages show it: "FILE:LINE"."""
    lines = Path(__file__).read_text().splitlines()
    return f"{FILE}:{1 + [line.endswith(f'# at {mark}') for line in lines].index(True)}"


def plain_apply(params, model_state, image, *, train, key=None):
    return {"logits": image.reshape(image.shape[0], -1) @ params["w"]}, model_state


def plain_init(key, image):
    return {"w": jax.random.normal(key, (image[0].size, K))}, {}


def check(init=plain_init, apply=plain_apply, num_classes=K) -> None:
    check_model(Model(init, apply), SHAPE, num_classes, name="net")


def complaint(init=plain_init, apply=plain_apply) -> str:
    with pytest.raises(UsageError) as caught:
        check(init, apply)
    message = str(caught.value)
    assert message.startswith("model net: ") and "\n" not in message
    return message.removeprefix("model net: ")


def on_logits(change):
    """`plain_apply` with `change(logits, train, key)` for its logits."""

    def apply(params, model_state, image, *, train, key=None):
        outputs, model_state = plain_apply(params, model_state, image, train=train)
        return {"logits": change(outputs["logits"], train, key)}, model_state

    return apply


class LinenNet(nn.Module):
    """Convolution, BatchNorm, dropout; the arguments break the last two."""

    average: bool | None = None  # BatchNorm's use_running_average; None: as it should be
    deterministic: bool | None = None  # dropout's

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Conv(4, (3, 3), name="conv")(image)
        average = not train if self.average is None else self.average
        x = nn.relu(nn.BatchNorm(use_running_average=average, name="bn")(x))
        deterministic = not train if self.deterministic is None else self.deterministic
        x = nn.Dropout(0.5, deterministic=deterministic, name="drop")(x.reshape(x.shape[0], -1))
        return {"logits": nn.Dense(K, name="output")(x), "features": x}


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.bn = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5)
        self.dense = nnx.Linear(8 * 8 * 4, K, rngs=rngs)

    def __call__(self, x, *, key):
        x = nnx.relu(self.bn(self.conv(x)))
        rngs = None if key is None else nnx.Rngs(dropout=key)
        return self.dense(self.drop(x.reshape(x.shape[0], -1), rngs=rngs))


def from_nnx(make, *, switch=True) -> Model:
    split = (nnx.Param, nnx.BatchStat, ...)
    graph, _, _, rest = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))), *split)

    def init(key, image):
        _, params, model_state, _ = nnx.split(make(nnx.Rngs(key)), *split)
        return params, model_state

    def apply(params, model_state, image, *, train, key=None):
        net = nnx.merge(graph, params, model_state, rest)
        if switch:
            net.set_attributes(deterministic=not train, use_running_average=not train)
        else:
            net.set_attributes(deterministic=True)
        return {"logits": net(image, key=key)}, nnx.state(net, nnx.BatchStat)

    return Model(init, apply)


@pytest.mark.parametrize(
    "model",
    [
        Model(plain_init, plain_apply),
        from_linen(LinenNet()),
        compute_in(from_linen(LinenNet()), jnp.bfloat16),
        from_nnx(NNXNet),
    ],
    ids=["plain", "linen", "linen in bfloat16", "nnx"],
)
def test_good_models_pass(model):
    check_model(model, SHAPE, K, name="net")


def test_two_classes_and_an_autoencoder_pass():
    check(lambda key, image: ({"w": jnp.zeros((64, 2))}, {}), num_classes=2)
    check(apply=lambda params, state, image, *, train, key=None: ({"recon": image, "latent": image[:, 0]}, state))


def test_debug_print_dropout_and_inner_jit_pass():
    @jax.jit
    def inner(x):
        jax.debug.print("{}", x[0])
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def change(logits, train, key):
        return inner(jnp.where(jax.random.bernoulli(key, 0.5, logits.shape), logits, 0) if train else logits)

    check(apply=on_logits(change))


def test_unused_randomness_in_evaluation_passes():
    def apply(params, model_state, image, *, train, key=None):
        fresh, _ = plain_init(jax.random.key(0), image)  # made to know the structure, never used
        return plain_apply({**fresh, **params}, model_state, image, train=train)

    check(apply=apply)


def test_each_function_is_traced_twice_and_none_compiled():
    calls, compiled = [], []

    def init(key, image):
        calls.append("init")
        return plain_init(key, image)

    def apply(params, model_state, image, *, train, key=None):
        calls.append("training" if train else "evaluation")
        return plain_apply(params, model_state, image, train=train)

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if "backend_compile" in event:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        check(init, apply)
        assert calls == ["init"] * 2 + ["evaluation"] * 2 + ["training"] * 2 and not compiled
        jax.jit(lambda x: x + 1).lower(jnp.ones(7)).compile()
        assert compiled  # the event has this name
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def no_train(params, model_state, image):
    return {"logits": image}, model_state


def fails_deep_inside(logits, train, key):
    return jnp.concatenate([logits, jnp.zeros((3, 3))], axis=1)  # at concatenate


def branches_on_a_value(logits, train, key):
    return logits if logits.sum() > 0 else -logits  # at branch


def test_init_that_cannot_be_traced():
    def init(key, image):
        return 1 / 0  # at division

    assert complaint(init=init) == f"init cannot be traced: ZeroDivisionError: division by zero ({place('division')})"


def test_apply_that_cannot_be_traced():
    wrong = "no_train() got an unexpected keyword argument 'train'"  # of no line of the user's: the call is ours
    assert complaint(apply=no_train) == f"apply(train=False) cannot be traced: TypeError: {wrong}"
    message = complaint(apply=on_logits(fails_deep_inside))
    assert message.startswith("apply(train=False) cannot be traced: TypeError: Cannot concatenate arrays")
    assert message.endswith(f"({place('concatenate')})")
    message = complaint(apply=on_logits(branches_on_a_value))
    assert message.startswith("apply(train=False) cannot be traced: TracerBoolConversionError: Attempted boolean")
    assert message.endswith(f"({place('branch')})")


def test_apply_that_fails_in_training_only():
    message = complaint(apply=on_logits(lambda logits, train, key: logits + (jnp.ones(7)[None] if train else 0)))
    assert message.startswith("apply(train=True) cannot be traced: TypeError")


def test_linen_errors_name_the_line_of_the_module():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            return {"logits": nn.Dense(K)(image.reshape(3, 5))}  # at reshape

    message = complaint(*from_linen(Net())[:2])
    assert message.startswith("init cannot be traced: TypeError: ") and message.endswith(f"({place('reshape')})")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "init must return (params, model_state), not None"),
        ({"w": jnp.zeros(3)}, "init must return (params, model_state), not a dict"),
        (({}, {}, {}), "init must return (params, model_state), not a tuple of 3"),
        (({"w": 0.5}, {}), "params['w'] is a float, not an array; leave it out, or make it one"),
        (({"net": {"act": "relu"}}, {}), "params['net']['act'] is a str, not an array; leave it out, or make it one"),
        (({"w": jnp.zeros(3, int)}, {}), "params['w'] is int32, which has no gradient; parameters are floats"),
        (({"w": jnp.zeros(3)}, {"n": 0}), "model_state['n'] is an int, not an array; leave it out, or make it one"),
    ],
)
def test_what_init_returns(result, message):
    assert complaint(init=lambda key, image: result) == message


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda y: y, "apply must return (outputs, model_state), not an array [2,10]"),
        (lambda y: {"logits": y}, "apply must return (outputs, model_state), not a dict"),
        (lambda y: ({"logits": y}, {}, 0), "apply must return (outputs, model_state), not a tuple of 3"),
        (lambda y: (y, {}), "apply must return outputs as a dict with 'logits', not an array [2,10]"),
        (lambda y: ({}, {}), "the outputs need 'logits' (or 'recon'); there is only nothing"),
        (lambda y: ({"logit": y, "x": y}, {}), "the outputs need 'logits' (or 'recon'); there is only logit, x"),
        (lambda y: ({"logits": y, "act": "relu"}, {}), "outputs['act'] is a str, not an array"),
        (lambda y: ({"logits": [y, y]}, {}), "logits must be one array, not a list of 2"),
        (lambda y: ({"logits": y > 0}, {}), "logits must be floats, not bool"),
        (lambda y: ({"logits": y.argmax(1)}, {}), "logits must be floats, not int32"),
        (lambda y: ({"logits": y.T}, {}), "logits must be [B,K], here [2,10] for 2 images, not [10,2]"),
        (lambda y: ({"logits": y[:, :9]}, {}), "logits must be [B,K], here [2,10] for 2 images, not [2,9]"),
        (lambda y: ({"logits": y.sum(0)}, {}), "logits must be [B,K], here [2,10] for 2 images, not [10]"),
    ],
)
def test_what_apply_returns(result, message):
    def apply(params, model_state, image, *, train, key=None):
        return result(plain_apply(params, model_state, image, train=train)[0]["logits"])

    assert complaint(apply=apply) == message


def test_two_classes_are_not_taken_for_the_batch():
    def init(key, image):
        return {"w": jnp.zeros((64, 2))}, {}

    with pytest.raises(UsageError, match=r"logits must be \[B,K\], here \[3,2\] for 3 images, not \[2,3\]"):
        check(init, on_logits(lambda logits, train, key: logits.T), num_classes=2)


STATE = {"bn": {"mean": jnp.zeros(3), "var": jnp.zeros(3)}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {}, "init gives model_state['bn']['mean'], which apply does not return"),
        (lambda s: {**s, "n": s["bn"]["var"]}, "apply returns model_state['n'], which init does not give"),
        (
            lambda s: {"bn": {**s["bn"], "var": s["bn"]["var"][:2]}},
            "apply turns model_state['bn']['var'] from float32[3] into float32[2]; it must stay as it is",
        ),
        (
            lambda s: {"bn": {**s["bn"], "var": s["bn"]["var"].astype(jnp.bfloat16)}},
            "apply turns model_state['bn']['var'] from float32[3] into bfloat16[3]; it must stay as it is",
        ),
        (
            lambda s: {"bn": {**s["bn"], "var": 1.0}},
            "apply turns model_state['bn']['var'] from float32[3] into a float; it must stay as it is",
        ),
        (nn.FrozenDict, "apply returns model_state as a FrozenDict; init gives a dict"),
    ],
)
def test_a_model_state_that_changes_its_form(change, message):
    def apply(params, model_state, image, *, train, key=None):
        return plain_apply(params, model_state, image, train=train)[0], change(model_state)

    assert complaint(lambda key, image: (plain_init(key, image)[0], STATE), apply).startswith(message)


@pytest.mark.parametrize(
    "change",
    [
        lambda logits, train, key: logits * next(_count),
        lambda logits, train, key: logits + np.random.rand(),
        lambda logits, train, key: logits + jnp.asarray(np.random.rand(1, K), jnp.float32),
        lambda logits, train, key: logits + time.perf_counter_ns() % 1_000_003,
        lambda logits, train, key: logits if next(_count) % 2 else -logits,
        lambda logits, train, key: jax.jit(lambda x: x * next(_count))(logits),
        lambda logits, train, key: logits * next(_count) if train else logits,
        lambda logits, train, key: jax.lax.fori_loop(0, 3, lambda i, x: x * next(_count), logits),
    ],
    ids=["counter", "numpy", "numpy array", "time", "branch", "inner jit", "training only", "loop"],
)
def test_hidden_state(change):
    message = complaint(apply=on_logits(change))
    assert message.startswith(f"apply has hidden state in {FILE}:")
    assert "two calls with the same arguments differ" in message


@jax.jit
def jitted_counter(x):
    return x * next(_count)  # at jitted


def test_hidden_state_in_a_jitted_function_that_was_called_before():
    jitted_counter(jnp.zeros((2, K)))
    for _ in range(2):  # the checks themselves do not hide it either
        message = complaint(apply=on_logits(lambda x, train, key: jitted_counter(x)))
        assert message.startswith(f"apply has hidden state in {place('jitted')}: ")


def test_hidden_state_in_init():
    message = complaint(init=lambda key, image: ({"w": jnp.asarray(np.random.rand(64, K), jnp.float32)}, {}))
    assert message.startswith("init has hidden state")


def test_constants_with_nan_are_no_hidden_state():
    mask = np.full((1, K), np.nan, np.float32)
    check(apply=on_logits(lambda logits, train, key: logits + jnp.asarray(mask) + float("nan")))


def log_to_file(x):
    return None


@pytest.mark.parametrize("in_loop", [False, True])
def test_side_effects(in_loop):
    def body(logits, _):
        io_callback(log_to_file, None, logits)  # at callback
        return logits, None

    def change(logits, train, key):
        return jax.lax.scan(body, logits, jnp.zeros(3))[0] if in_loop else body(logits, None)[0]

    assert complaint(apply=on_logits(change)) == (
        f"side effect: io_callback of log_to_file in {place('callback')}; init and apply must be pure"
    )


def test_dropout_that_stays_on_in_evaluation():
    def change(logits, train, key):
        return logits * jax.random.bernoulli(jax.random.key(0), 0.5, logits.shape)  # at draw

    message = complaint(apply=on_logits(change))
    assert message.startswith(f"apply draws random numbers at train=False in {place('draw')}: ")


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_dropout_that_ignores_its_key(make_key):
    def change(logits, train, key):
        return logits * jax.random.bernoulli(make_key(3), 0.5, logits.shape) if train else logits

    assert complaint(apply=on_logits(change)).startswith("apply draws random numbers that do not come from key in ")


def test_linen_dropout_that_is_never_on():
    message = complaint(*from_linen(LinenNet(deterministic=True))[:2])
    assert message.startswith("dropout 'drop' drops nothing at train=True: train does not reach it")


def test_linen_dropout_of_rate_0_passes():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            return {"logits": nn.Dense(K)(nn.Dropout(0.0, deterministic=not train)(image).reshape(image.shape[0], -1))}

    check(*from_linen(Net())[:2])


def test_linen_dropout_that_is_always_on():
    # Linen itself asks for a key then.
    assert complaint(*from_linen(LinenNet(deterministic=False))[:2]).startswith(
        "apply(train=False) cannot be traced: Inval"
    )


def test_batch_norm_that_never_learns():
    for model in (from_linen(LinenNet(average=True)), from_nnx(FrozenNNXNet)):
        assert complaint(*model[:2]).startswith("apply returns model_state untouched at train=True")


class FrozenNNXNet(NNXNet):
    def __call__(self, x, *, key):
        self.bn.use_running_average = True
        return super().__call__(x, key=key)


def test_batch_norm_that_ignores_train():
    assert complaint(*from_nnx(NNXNet, switch=False)[:2]).startswith("train changes nothing: apply updates model_state")


@pytest.mark.parametrize(("name", "side"), [("mlp", 8), ("logistic", 8), ("simple_cnn", 32), ("airbench", 32)])
def test_shipped_networks_keep_the_contract(name, side):
    """Those whose own tests do not say so: a run takes the networks that ship on trust."""
    model = get_model(name, {}, num_classes=5)
    check_model(model, (side, side, 3), 5, name=name)
    check_shipped(model, (side, side, 3), 5, name=name)


def test_a_shipped_network_still_tells_a_small_image():
    with pytest.raises(
        UsageError, match=r"model lenet5: an image of 28x28 is too small: .*smallest that works is 32x32"
    ):
        check_shipped(get_model("lenet5", {}, num_classes=10), (28, 28, 1), 10, name="lenet5")


def test_a_config_s_network_is_checked_in_full_unless_it_ships():
    random = itertools.count()
    drifting = Model(plain_init, on_logits(lambda logits, train, key: logits + next(random)))
    with pytest.raises(UsageError, match="model own: "):
        check_named(drifting, SHAPE, K, name="own")
    check_named(drifting, SHAPE, K, name="mlp")  # on trust
