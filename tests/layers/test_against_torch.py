# SPDX-License-Identifier: Apache-2.0
"""The layers against PyTorch: golden cases anywhere, random ones where PyTorch is installed."""

import json
import runpy
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.errors import UsageError
from cnnjax.types import Array

peer = runpy.run_path(str(Path(__file__).with_name("make_golden.py")))
NUM_RANDOM = (12, pytest.param(60, marks=pytest.mark.slow))  # of each layer


def forward(case: dict[str, Any], arrays: dict[str, Array], *, im2col: bool = False) -> tuple[Array, Array | None]:
    """(out, indices or None) of our layer under PyTorch's options."""
    x, options = arrays["x"], dict(case["options"])
    match case["op"]:
        case "conv":
            convolve = layers.conv2d_im2col if im2col else layers.conv2d
            return convolve(x, arrays["kernel"], arrays.get("bias"), **options), None
        case "max_pool":
            return layers.max_pool2d(x, **options, return_indices=True)
        case "avg_pool":
            return layers.avg_pool2d(x, **options), None
        case "max_unpool":
            values, indices = layers.max_pool2d(x, **options, return_indices=True)
            return layers.max_unpool2d(values, indices, **options, output_size=x.shape[1:3]), indices
        case "adaptive_avg":
            return layers.adaptive_avg_pool2d(x, **options), None
        case "adaptive_max":
            return layers.adaptive_max_pool2d(x, **options), None
    options["alpha"] /= options["size"]  # PyTorch's convention
    return layers.local_response_norm(x, **options), None


def answer(case: dict[str, Any], arrays: dict[str, Any], *, im2col: bool = False) -> dict[str, Array]:
    """What `ask_torch` gives, computed by us."""
    out, pull, indices = jax.vjp(partial(forward, case, im2col=im2col), arrays, has_aux=True)
    (gradients,) = pull(jnp.asarray(peer["cotangent"](out.shape)))
    result = {"out": out, **{f"d_{name}": gradient for name, gradient in gradients.items()}}
    if case["op"] == "max_pool":  # without indices it is computed another way
        plain, pull = jax.vjp(lambda x: layers.max_pool2d(x, **case["options"]), arrays["x"])
        result |= {"plain": plain, "d_plain": pull(jnp.asarray(peer["cotangent"](out.shape)))[0]}
    return result if indices is None else {**result, "indices": indices}


def compare(cases: list[dict[str, Any]], arrays: list[Any], wanted: list[Any], *, im2col: bool = False) -> None:
    """All cases in one compilation without optimisation: hundreds of small ones would take minutes."""
    answers = jax.jit(lambda arrays: [answer(c, a, im2col=im2col) for c, a in zip(cases, arrays, strict=True)])
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    got = answers.lower(arrays).compile(quick)(arrays)
    for case, ours, theirs in zip(cases, got, wanted, strict=True):
        if "plain" in ours:
            theirs = {**theirs, "plain": theirs["out"], "d_plain": theirs["d_x"]}
        assert set(ours) == set(theirs)
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=2e-5, err_msg=f"{name} of {case}")


@pytest.mark.parametrize("number", NUM_RANDOM)
@pytest.mark.parametrize("op", peer["OPS"])
def test_random_configurations_equal_torch(op: str, number: int):
    pytest.importorskip("torch")
    rng = np.random.default_rng(number)
    cases, given, wanted = [], [], []
    while len(cases) < number:
        case = peer["draw_case"](op, rng)
        arrays = peer["draw_arrays"](case, rng)
        theirs = peer["ask_torch"](case, arrays)
        if theirs is None:  # what PyTorch refuses, we refuse
            with pytest.raises(UsageError):
                jax.eval_shape(partial(forward, case), arrays)
            continue
        cases.append(case)
        given.append(arrays)
        wanted.append(theirs)
    compare(cases, given, wanted)
    if op == "conv":
        compare(cases, given, wanted, im2col=True)


@pytest.mark.parametrize("op", peer["OPS"])
def test_golden_cases(op: str):
    golden = [case for case in json.loads(peer["GOLDEN"].read_text()) if case["op"] == op]
    assert len(golden) == peer["NUM_GOLDEN"]
    arrays = [{name: np.array(a, np.float32) for name, a in case.pop("arrays").items()} for case in golden]
    wanted = [{name: np.array(a) for name, a in case.pop("answer").items()} for case in golden]
    compare(golden, arrays, wanted)
    if op == "conv":
        compare(golden, arrays, wanted, im2col=True)
