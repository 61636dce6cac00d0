# SPDX-License-Identifier: Apache-2.0
"""Whether a model keeps the contract of `cnnjax.types.Model`, told before training in one line.

Only tracing, no compilation: well under a second for a small network.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from cnnjax.errors import UsageError
from cnnjax.inspect.compare import find_difference
from cnnjax.inspect.smallest import empty_layer, explain_size
from cnnjax.inspect.source import describe_error, line_of
from cnnjax.inspect.steps import Step, Trace, effects
from cnnjax.inspect.trace import trace
from cnnjax.models import MODELS
from cnnjax.models.contract import BrokenContract, check_apply, check_init
from cnnjax.types import Array, Model, ModelState, Params, PyTree

_STATE, _KEY = 1, 3  # positions among the arguments (params, model_state, image, key)
_DRAWS = ("random_bits", "random_gamma", "rng_bit_generator", "rng_uniform", "threefry2x32")
_number = itertools.count()


def check_named(model: Model, image_shape: tuple[int, int, int], num_classes: int, *, name: str) -> None:
    """The check that the network `name` of a config needs before a run: a short one where it is one of `MODELS`."""
    (check_shipped if name in MODELS else check_model)(model, image_shape, num_classes, name=name)


def check_shipped(model: Model, image_shape: tuple[int, int, int], num_classes: int, *, name: str) -> None:
    """As `check_model` for a network of this project: tests show that it keeps the contract, if the image suits it.

    One trace of init, which the run needs anyway, in place of six of all functions: seconds for a deep network.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        jax.eval_shape(model.init, jax.random.key(0), image)
    except Exception:  # whatever it is, the whole check says it better
        check_model(model, image_shape, num_classes, name=name)


def check_model(model: Model, image_shape: tuple[int, int, int], num_classes: int, *, name: str) -> None:
    """Raises for the first thing in which a model breaks the contract; returns if there is none.

    Args:
      model: any pair of functions.
      image_shape: (H, W, C) of the image, float32.
      num_classes: K; logits must be [B,K].
      name: what the message calls the model.

    Raises:
      UsageError: init or apply cannot be traced; the image is too small; what they return is not as in the contract;
        they have hidden state or side effects; `train` or `key` does not do what it is there for.
    """
    try:
        traced = _trace_model(model, image_shape, num_classes)
    except BrokenContract as broken:
        if broken.__cause__ is not None and (small := explain_size(model, image_shape)):
            raise UsageError(f"model {name}: {small}") from broken.__cause__
        raise UsageError(f"model {name}: {broken}") from broken.__cause__
    if empty_layer(traced.evaluation[0]) and (small := explain_size(model, image_shape)):
        raise UsageError(f"model {name}: {small}")
    for check in _CHECKS:
        if complaint := check(traced):
            raise UsageError(f"model {name}: {complaint}")


class _Traced(NamedTuple):
    """Each function traced twice, and what was seen on the way."""

    init: tuple[Trace, Trace]
    evaluation: tuple[Trace, Trace]  # apply at train=False
    training: tuple[Trace, Trace]  # apply at train=True
    model_state: ModelState  # shapes and dtypes
    dropouts: list[str]  # Linen's dropout modules of a rate above 0, by path


def _trace_model(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> _Traced:
    batch = 3 if num_classes == 2 else 2  # B != K, so that [K,B] is not taken for [B,K]
    image = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    made: list[tuple[Params, ModelState]] = []
    dropouts: list[str] = []

    def init(key: Array, image: Array) -> Any:
        result = model.init(key, image)
        check_init(result)
        made.append(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), result))
        return result

    def evaluate(params: Params, model_state: ModelState, image: Array) -> Any:
        result = model.apply(params, model_state, image, train=False)
        check_apply(result, model_state, (batch, num_classes))
        return result

    def train(params: Params, model_state: ModelState, image: Array, key: Array) -> Any:
        with nn.intercept_methods(_note_dropout(dropouts)):
            result = model.apply(params, model_state, image, train=True, key=key)
        check_apply(result, model_state, (batch, num_classes))
        return result

    inits = _trace_twice("init", init, key, image)
    params, model_state = made[0]
    evaluations = _trace_twice("apply(train=False)", evaluate, params, model_state, image)
    trainings = _trace_twice("apply(train=True)", train, params, model_state, image, key)
    return _Traced(inits, evaluations, trainings, model_state, dropouts)


def _trace_twice(what: str, function: Callable[..., Any], *args: PyTree) -> tuple[Trace, Trace]:
    """Two traces that share nothing: the inner jitted functions of a model, too, are traced anew for the second.

    jax keeps traces by function, shapes and context, so that an inner `jax.jit` would show the same program twice.
    A tag of its own on the operations, without any meaning, makes a context that was never there.
    """
    try:
        first = trace(function, *args)
        with set_xla_metadata(check_model=str(next(_number))):
            return first, trace(function, *args)
    except BrokenContract:
        raise
    except Exception as error:
        raise BrokenContract(f"{what} cannot be traced: {describe_error(error)}") from error


def _note_dropout(paths: list[str]) -> Callable[..., Any]:
    def note(next_function: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, nn.Dropout) and isinstance(module.rate, int | float) and module.rate > 0:
            paths.append("/".join(module.path))
        return next_function(*args, **kwargs)

    return note


# What the traces tell. Each check returns its complaint, or None.


def _hidden_state(traced: _Traced) -> str | None:
    for what, pair in (("init", traced.init), ("apply", traced.evaluation), ("apply", traced.training)):
        if (place := find_difference(*pair)) is not None:
            return (
                f"{what} has hidden state{_in(place)}: two calls with the same arguments differ "
                "(a counter, numpy.random or the time); all must come from the arguments, randomness from key"
            )
    return None


def _side_effects(traced: _Traced) -> str | None:
    for step in itertools.chain(*(pair[0].steps for pair in (traced.init, traced.evaluation, traced.training))):
        # Debug effects (jax.debug.print) are meant to be left in while a model is worked on.
        if any("IO" in type(effect).__name__ for effect in effects(step)):
            function = getattr(step.params.get("callback"), "callback_func", None)
            called = getattr(function, "__name__", "a function")
            return f"side effect: {step.primitive} of {called}{_in(line_of(step))}; init and apply must be pure"
    return None


def _random_evaluation(traced: _Traced) -> str | None:
    for step in _draws(traced.evaluation[0]):
        return (
            f"apply draws random numbers at train=False{_in(line_of(step))}: evaluation must not; "
            "switch dropout off (deterministic=not train)"
        )
    return None


def _ignored_key(traced: _Traced) -> str | None:
    for step in _draws(traced.training[0]):
        if _KEY not in step.outputs[0].arguments:
            return (
                f"apply draws random numbers that do not come from key{_in(line_of(step))}: "
                "each step would draw the same; make them from the argument key"
            )
    return None


def _idle_dropout(traced: _Traced) -> str | None:
    if traced.dropouts and not any(_draws(traced.training[0])):
        return (
            f"dropout {traced.dropouts[0]!r} drops nothing at train=True: train does not reach it "
            "(nn.Dropout(rate, deterministic=not train))"
        )
    return None


def _idle_state(traced: _Traced) -> str | None:
    count = len(jax.tree.leaves(traced.model_state))
    training = traced.training[0]
    given = [value.id for value in training.inputs if value.arguments == {_STATE}]
    if count and [value.id for value in training.outputs[-count:]] == given:
        return (
            "apply returns model_state untouched at train=True: train does not reach its BatchNorm "
            "(use_running_average=not train); constants belong into the function, not into model_state"
        )
    return None


def _idle_switch(traced: _Traced) -> str | None:
    if jax.tree.leaves(traced.model_state) and find_difference(traced.evaluation[0], traced.training[0]) is None:
        return "train changes nothing: apply updates model_state at train=False, too; evaluation must use it as it is"
    return None


def _draws(program: Trace) -> Iterator[Step]:
    return (step for step in program.steps if step.primitive in _DRAWS)


def _in(place: str) -> str:
    return f" in {place}" if place else ""


_CHECKS = (_hidden_state, _side_effects, _random_evaluation, _ignored_key, _idle_dropout, _idle_state, _idle_switch)
