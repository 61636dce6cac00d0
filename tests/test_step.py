# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax.data import load_dataset
from cnnjax.data.resident import train_stream
from cnnjax.experiment import build_model, build_training
from cnnjax.lookahead import make_lookahead
from cnnjax.models.adapter import compute_in
from cnnjax.models.mlp import mlp
from cnnjax.preprocess import make_prepare
from cnnjax.step import init_state, make_train_step
from cnnjax.tasks import classification
from cnnjax.types import Batch, Model
from experiments import default

# Loss and gradient norm of the first step of `tiny`. A change of the numbers is a change of what users train:
# when it is meant, print the new ones (the assertion shows them) and say in the commit why they moved.
GOLDEN = {"loss": 1.1434933, "gradient_norm": 1.2816994}


def one_device() -> Mesh:
    return Mesh(np.array(jax.devices()[:1]), ("data",))


def training(config, mesh: Mesh | None = None):
    dataset = load_dataset(config.data)
    model = build_model(config, len(dataset.label_names))
    return build_training(config, model, dataset, mesh or one_device())


def take(config, calls: list[int], mesh: Mesh | None = None):
    """Runs calls of so many steps each; the last state and the per-step losses."""
    parts = training(config, mesh)
    state, step, losses = parts.init(), 0, []
    for count in calls:
        items = parts.stream.items(step, count)
        items = jax.tree.map(
            lambda x: np.concatenate([x, np.zeros((parts.steps_per_dispatch - len(x), *x.shape[1:]), x.dtype)]), items
        )
        state, rows = parts.dispatch(state, parts.stream.arrays, items, count)
        losses += list(np.asarray(rows["loss"][0][:count] / rows["loss"][1][:count]))
        step += count
    return jax.device_get(state), np.array(losses)


def same_bits(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_golden_first_step(tiny):
    parts = training(tiny())
    _, rows = parts.dispatch(parts.init(), parts.stream.arrays, parts.stream.items(0, parts.steps_per_dispatch), 1)
    got = {name: float(rows[name][0][0] / rows[name][1][0]) for name in GOLDEN}
    assert got == pytest.approx(GOLDEN, rel=1e-4), f"the first step's numbers moved: {got}"


@pytest.mark.optimized
def test_where_a_run_is_cut_into_calls_does_not_matter(tiny):
    config = tiny("train.steps_per_dispatch=4", "augment.shift=1", "model.dropout_rate=0.3")
    whole, losses = take(config, [4, 4, 2])
    for calls in ([1] * 10, [3, 3, 3, 1], [2, 4, 4]):
        cut, cut_losses = take(config, calls)
        assert same_bits(whole, cut)
        np.testing.assert_array_equal(losses, cut_losses)


def test_loop_and_single_steps_agree(tiny):
    loop, _ = take(tiny("train.steps_per_dispatch=3"), [3, 3])
    single, _ = take(tiny("train.steps_per_dispatch=1"), [1] * 6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), loop.params, single.params)


def test_one_compilation_serves_every_call(tiny):
    parts = training(tiny("train.steps_per_dispatch=4"))
    state, step = parts.init(), 0
    for count in (4, 1, 3):
        items = jax.tree.map(lambda x: np.resize(x, (4, *x.shape[1:])), parts.stream.items(step, count))
        state, _ = parts.dispatch(state, parts.stream.arrays, items, count)
        step += count
    assert parts.dispatch._cache_size() == 1  # pyright: ignore[reportAttributeAccessIssue]


def test_seeds_draw_their_own_numbers_by_one_program(tiny):
    options = ("model.dropout_rate=0.3", "augment.shift=2", "train.steps_per_dispatch=2")
    programs, ends = set(), []
    for seed in (0, 1):
        parts = training(tiny(*options, f"seed={seed}"))
        items = training(tiny(*options)).stream.items(0, 2)  # the same pictures and the same start for both
        begun = parts.init_from(jax.random.key(5))
        programs.add(parts.dispatch.lower(begun, parts.stream.arrays, items, 2).as_text())
        ends.append(parts.dispatch(begun, parts.stream.arrays, items, 2)[0].params)
    assert len(programs) == 1 and not same_bits(*ends)


def test_two_devices_train_as_one(tiny):
    config = tiny("model.dropout_rate=0.3", "augment.shift=2", "augment.mixup=0.4")
    one, one_losses = take(config, [2, 2, 2])
    two, two_losses = take(config, [2, 2, 2], devices.make_mesh())
    assert jax.device_count() == 2
    np.testing.assert_allclose(one_losses, two_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one.params, two.params)


def test_accumulated_gradients_are_those_of_the_whole_batch(tiny):
    whole, _ = take(tiny(), [2, 2])
    parts, _ = take(tiny("train.accumulate=4"), [2, 2])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole.params, parts.params)


def test_ema_is_the_running_average(tiny):
    config = tiny("train.ema_decay=0.9", "train.log_every_steps=1")
    states = [take(config, [1] * n)[0] for n in (1, 2)]
    start = jax.device_get(training(config).init())
    first = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, start.params, states[0].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), first, states[0].ema_params)
    second = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, states[0].ema_params, states[1].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), second, states[1].ema_params)
    assert not same_bits(states[1].params, states[1].ema_params)


@pytest.mark.optimized
def test_lookahead_pulls_parameters_and_statistics_back_to_the_slow_ones():
    def apply(params, model_state, image, *, train, key=None):
        return {"logits": image.reshape(4, 2) @ params["w"]}, {"mean": 0.5 * model_state["mean"] + image.mean()}

    model = Model(lambda key, image: ({"w": jnp.zeros((2, 3))}, {"mean": jnp.zeros(())}), apply)
    tx = optax.sgd(0.5, momentum=0.9)
    image, label = jax.random.normal(jax.random.key(1), (4, 2, 1, 1)), jnp.array([0, 1, 2, 0])
    batch = Batch(image=image, label=label, mask=jnp.ones(4))
    optimizer = default.get_config().optimizer
    with optimizer.unlocked():
        optimizer.lookahead, optimizer.lookahead_decay = 2, 0.7

    def states(lookahead):
        step = make_train_step(model, classification(), tx, lambda key, batch: batch, lookahead=lookahead)
        state = init_state(model, tx, image, jax.random.key(0), ema=False, lookahead=lookahead is not None)
        found, step = [state], jax.jit(step)
        for _ in range(5):
            state, _ = step(state, batch, jax.random.key(0))
            found.append(state)
        return found

    fast, pulled = states(None), states(make_lookahead(optimizer, 5))
    for part in ("params", "model_state"):
        assert same_bits(getattr(pulled[1], part), getattr(fast[1], part))
        met = jax.tree.map(lambda s, f: 0.7 * s + 0.3 * f, getattr(fast[0], part), getattr(fast[2], part))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), getattr(pulled[2], part), met)
    assert same_bits(pulled[2].opt_state.opt_state, fast[2].opt_state)  # momentum is left as it is
    assert same_bits((pulled[5].params, pulled[5].model_state), pulled[5].opt_state.slow)  # at the run's end
    assert same_bits(pulled[5].opt_state.slow, pulled[4].opt_state.slow)


def test_a_network_may_start_from_training_images(tiny):
    config = tiny("data.mean=(0.5,)", "data.std=(0.25,)", "augment.mirror=1.0")
    dataset = load_dataset(config.data)
    seen = []

    def init_from_data(params, model_state, image):
        seen.append(image.shape)
        return {**params, "output": {**params["output"], "bias": jnp.full(3, image.mean())}}, model_state

    model = build_model(config, 3)._replace(init_from_data=init_from_data)
    state = build_training(config, model, dataset, one_device()).init()
    images = dataset.splits["train"].image
    assert set(seen) == {images.shape}
    np.testing.assert_allclose(
        state.params["output"]["bias"], np.full(3, (images / 255).mean() - 0.5) / 0.25, rtol=1e-4
    )
    plain = training(config).init()
    assert same_bits(plain.params["output"]["kernel"], state.params["output"]["kernel"])


def test_padding_changes_nothing():
    model, tx = mlp(num_classes=3, hidden=(4,)), optax.sgd(0.1)
    step = make_train_step(model, classification(), tx, lambda key, batch: batch)
    image = jax.random.normal(jax.random.key(1), (4, 2, 2, 1))
    label = jnp.array([0, 1, 2, 0])
    state = init_state(model, tx, image, jax.random.key(0), ema=False)
    padded = Batch(
        image=jnp.concatenate([image, jnp.full((2, 2, 2, 1), 7.0)]),
        label=jnp.concatenate([label, jnp.array([1, 1])]),
        mask=jnp.array([1.0, 1, 1, 1, 0, 0]),
    )
    step = jax.jit(step)
    plain, _ = step(state, Batch(image=image, label=label, mask=jnp.ones(4)), jax.random.key(0))
    masked, sums = step(state, padded, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), plain, masked)
    assert float(sums["loss"][1]) == 4


def test_compiled_and_plain_step_agree(tiny):
    config = tiny()
    dataset = load_dataset(config.data)
    model, tx = build_model(config, 3), optax.sgd(0.1, momentum=0.9)
    prepare, _ = make_prepare(config.data, config.augment, 3)
    step = make_train_step(model, classification(), tx, prepare)
    stream = train_stream(dataset.splits["train"], batch_size=8, seed=0)
    batch = stream.batch(stream.arrays, jax.tree.map(lambda x: x[0], stream.items(0, 1)))
    state = init_state(model, tx, jnp.zeros((8, 8, 8, 1)), jax.random.key(0), ema=False)
    plain, compiled = (f(state, batch, jax.random.key(0)) for f in (step, jax.jit(step)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, compiled)


def test_bfloat16_computes_low_and_keeps_parameters_high(tiny):
    model = compute_in(mlp(num_classes=3, hidden=(4,)), "bfloat16")
    params, state = model.init(jax.random.key(0), jnp.zeros((2, 4, 4, 1)))
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    text = str(jax.make_jaxpr(lambda p, x: model.apply(p, state, x, train=False)[0])(params, jnp.ones((2, 4, 4, 1))))
    assert "bf16[2,4] = dot_general" in text and "f32[2,4] = dot_general" not in text
    outputs, _ = model.apply(params, state, jnp.ones((2, 4, 4, 1)), train=False)
    assert outputs["logits"].dtype == jnp.float32
    final, losses = take(tiny("train.dtype=bfloat16"), [2, 2, 2])
    assert losses[-1] < losses[0] and {x.dtype for x in jax.tree.leaves(final.params)} == {np.dtype("float32")}
