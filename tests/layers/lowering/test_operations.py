# SPDX-License-Identifier: Apache-2.0
"""The operations' derivatives, batching and lowering, against `jax.lax`'s convolution in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import conv2d
from cnnjax.layers.lowering import Geometry, native, operations

# map, kernel, stride, padding, dilation, groups, channels, features
CASES = {
    "3x3": ((5, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, 3, 4),
    "stride, rows left over": ((6, 7), (3, 2), (2, 3), ((1, 0), (0, 2)), (1, 1), 1, 2, 3),
    "dilation": ((7, 6), (3, 2), (1, 2), ((2, 1), (0, 0)), (2, 3), 1, 2, 2),
    "groups": ((5, 5), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2, 4, 6),
    "depthwise, stride": ((5, 5), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 3, 3, 3),
    "1x1 with padding": ((3, 4), (1, 1), (1, 1), ((1, 1), (0, 1)), (1, 1), 1, 2, 3),
    "deep and small, so by tap": ((3, 3), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1, 32, 32),
    "large, so by image": ((66, 65), (2, 2), (1, 1), ((0, 0), (0, 1)), (1, 1), 1, 1, 2),
}


def arrays(case, dtype):
    size, kernel_size, *_, groups, channels, features = CASES[case]
    random = np.random.default_rng(3)
    shapes = (2, *size, channels), (*kernel_size, channels // groups, features)
    return tuple(jnp.asarray(random.normal(size=shape).astype(np.float32), dtype) for shape in shapes)


def ours(case):
    _, _, stride, sides, dilation, groups, _, _ = CASES[case]
    return lambda x, kernel: conv2d(x, kernel, stride=stride, padding=sides, dilation=dilation, groups=groups)


def wanted(case):
    return lambda x, kernel: native.forward(x, kernel, Geometry(*CASES[case][:6]))


def gradients(convolve):
    """The result and both gradients."""

    def compute(x, kernel):
        out, pull = jax.vjp(convolve, x, kernel)
        return out, pull(jnp.cos(out))

    return jax.jit(compute)


def second(convolve):
    """Forward over reverse, and reverse over reverse."""

    def energy(x, kernel):
        return (convolve(x, kernel) ** 3).sum()

    def squares(x, kernel):
        return sum((g**2).sum() for g in jax.grad(energy, (0, 1))(x, kernel))

    def compute(x, kernel):
        along = jax.jvp(jax.grad(energy, (0, 1)), (x, kernel), (jnp.cos(x), jnp.sin(kernel)))
        return along, jax.grad(squares, (0, 1))(x, kernel)

    return jax.jit(compute)


def assert_equal_trees(found, expected, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(jnp.abs(b).max()))


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_lax(case):
    with jax.enable_x64(True):
        expected = gradients(wanted(case))(*arrays(case, jnp.float64))
        assert_equal_trees(gradients(ours(case))(*arrays(case, jnp.float64)), expected, 1e-12)
    # float32 has other ways to compute
    assert_equal_trees(gradients(ours(case))(*arrays(case, jnp.float32)), jax.tree.map(jnp.float32, expected), 1e-5)


@pytest.mark.parametrize("case", ["stride, rows left over", "groups"])
def test_second_derivatives_are_those_of_lax(case):
    with jax.enable_x64(True):
        expected = second(wanted(case))(*arrays(case, jnp.float64))
        assert_equal_trees(second(ours(case))(*arrays(case, jnp.float64)), expected, 1e-12)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_is_a_loop(axes):
    case = "groups"
    x, kernel = arrays(case, jnp.float32)
    many = [jnp.stack([a, 2 * a + 1, -a]) if axis == 0 else a for a, axis in zip((x, kernel), axes, strict=True)]

    def pull(x, kernel):
        return jax.grad(lambda *a: (ours(case)(*a) ** 2).sum(), (0, 1))(x, kernel)

    mapped = jax.jit(jax.vmap(pull, axes))(*many)
    looped = [pull(*(a[i] if axis == 0 else a for a, axis in zip(many, axes, strict=True))) for i in range(3)]
    assert_equal_trees(mapped, jax.tree.map(lambda *a: jnp.stack(a), *looped), 1e-5)


def test_vmap_of_vmap_and_in_a_loop():
    x, kernel = arrays("3x3", jnp.float32)
    both = jax.vmap(jax.vmap(ours("3x3"), (0, None)), (None, 0))
    out = both(jnp.stack([x, -x]), jnp.stack([kernel, 2 * kernel, 0 * kernel]))
    one = wanted("3x3")(x, kernel)
    np.testing.assert_allclose(
        out, jnp.einsum("i,j,bhwc->ijbhwc", jnp.array([1, 2, 0]), jnp.array([1, -1]), one), rtol=1e-5, atol=1e-5
    )
    _, turns = jax.lax.scan(lambda carry, scale: (carry, ours("3x3")(scale * x, kernel)), 0, jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(turns, jnp.stack([one, 3 * one]), rtol=1e-5, atol=1e-5)
    with jax.disable_jit():
        np.testing.assert_allclose(ours("3x3")(x, kernel), one, rtol=1e-5, atol=1e-5)


def test_half_precision_and_mixed_types():
    x, kernel = arrays("3x3", jnp.bfloat16)
    found = jax.jit(jax.grad(lambda *a: ours("3x3")(*a).astype(jnp.float32).sum(), (0, 1)))(x, kernel)
    expected = jax.grad(lambda *a: wanted("3x3")(*a).sum(), (0, 1))(x.astype(jnp.float32), kernel.astype(jnp.float32))
    assert {g.dtype for g in found} == {jnp.dtype(jnp.bfloat16)}
    assert_equal_trees(jax.tree.map(jnp.float32, found), expected, 2e-2)
    with pytest.raises(TypeError, match="one floating-point type, not bfloat16 and float32"):
        conv2d(x, kernel.astype(jnp.float32))


def test_other_platforms_and_exports_get_the_native_convolution():
    x, kernel = arrays("3x3", jnp.float32)
    step = jax.jit(jax.grad(lambda x, kernel: ours("3x3")(x, kernel).sum(), (0, 1)))
    exported = jax.export.export(step, platforms=("cpu", "cuda", "tpu"))(x, kernel)
    assert "onednn" not in exported.mlir_module() and "stablehlo.convolution" in exported.mlir_module()
    assert_equal_trees(exported.call(x, kernel), step(x, kernel), 1e-5)


def test_on_several_devices_the_batch_stays_split():
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x, kernel = arrays("3x3", jnp.float32)
    compiled = jax.jit(ours("3x3"), in_shardings=(split, None), out_shardings=split).lower(x, kernel).compile()
    program = str(compiled.as_text())
    assert "all-gather" not in program and "onednn" not in program
    np.testing.assert_allclose(
        compiled(jax.device_put(x, split), kernel), wanted("3x3")(x, kernel), rtol=1e-5, atol=1e-5
    )


def test_the_traced_program_shows_one_convolution_by_its_usual_name():
    x, kernel = arrays("groups", jnp.float32)
    (equation,) = jax.make_jaxpr(ours("groups"))(x, kernel).eqns
    (usual,) = jax.make_jaxpr(wanted("groups"))(x, kernel).eqns
    assert equation.primitive.name == usual.primitive.name
    assert dict(equation.params) == {key: value for key, value in usual.params.items() if key != "out_sharding"}


@pytest.mark.parametrize(
    "around",
    [
        lambda f: f,
        jax.checkpoint,
        lambda f: lambda x, kernel: jax.vmap(f, (0, None))(x[None], kernel).sum(),
        lambda f: lambda x, kernel: jax.lax.scan(lambda c, row: (c + f(row, kernel), None), 0.0, x[None])[0],
    ],
    ids=["plain", "rematerialised", "vmap", "scan"],
)
def test_what_is_differentiated_is_known_as_part_of_a_training_step(around, monkeypatch):
    kinds = set()
    for kind, choose in operations._CHOICES.items():

        def noted(*shapes, kind=kind, choose=choose):
            kinds.add(kind)
            return choose(*shapes)

        monkeypatch.setitem(operations._CHOICES, kind, noted)
    x, kernel = arrays("3x3", jnp.float32)
    energy = around(lambda x, kernel: (ours("3x3")(x, kernel) ** 2).sum())
    jax.jit(energy).lower(x, kernel)
    assert kinds == {"forward"}
    kinds.clear()
    jax.jit(jax.value_and_grad(energy, (0, 1))).lower(x, kernel)
    assert kinds == {"trained_forward", "input_gradient", "kernel_gradient"}
    kinds.clear()
    jax.jit(lambda *a: jax.jvp(energy, a, a)).lower(x, kernel)
    assert kinds == {"trained_forward"}
