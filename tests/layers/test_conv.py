# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers import Conv, conv2d
from cnnjax.layers.sizes import make_window, pair, resolve_padding, window_output

PATCH = [[221, 198, 149], [205, 147, 173], [149, 170, 222]]
SOBEL_X = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
BINARY = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
CROSS = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def one_map(rows):
    return jnp.array(rows, jnp.float32)[None, :, :, None]


def one_kernel(rows):
    return jnp.array(rows, jnp.float32)[:, :, None, None]


def num_parameters(layer: nn.Module, *shape: int) -> tuple[int, tuple[int, ...]]:
    out, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(variables)), out.shape


@pytest.mark.parametrize(
    ("image", "kernel", "wanted"),
    [(PATCH, SOBEL_X, [[-63]]), (BINARY, CROSS, [[4, 3, 4], [2, 4, 3], [2, 3, 4]])],
)
def test_the_lectures_examples(image, kernel, wanted):
    np.testing.assert_array_equal(conv2d(one_map(image), one_kernel(kernel)), one_map(wanted))


def test_the_lectures_parameter_counts():
    assert num_parameters(Conv(1, 3), 1, 8, 8, 3) == (28, (1, 6, 6, 1))
    assert num_parameters(Conv(10, 3), 1, 6, 6, 6) == (550, (1, 4, 4, 10))  # 160 neurons
    assert num_parameters(Conv(10, 3, use_bias=False), 1, 6, 6, 6)[0] == 540
    assert num_parameters(Conv(6, 3, groups=2), 1, 6, 6, 4)[0] == 3 * 3 * 2 * 6 + 6


def test_an_impulse_shows_where_each_tap_looks():
    """Tap (i, j) of the kernel meets the pixel that lies (i, j) after the output's: cross-correlation."""
    image = np.zeros((3, 3))
    image[1, 1] = 1
    kernel = np.arange(1, 10).reshape(3, 3)
    out = conv2d(one_map(image), one_kernel(kernel), padding="same")
    np.testing.assert_array_equal(out, one_map(kernel[::-1, ::-1]))


@pytest.mark.parametrize(
    ("padding", "sides"),
    [
        ("valid", ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([[0, 1], [2, 3]], ((0, 1), (2, 3))),
    ],
)
def test_padding_takes_every_form(padding, sides):
    assert resolve_padding(padding, 3) == sides


def test_same_keeps_the_size_and_puts_the_odd_pixel_at_the_bottom_and_right():
    assert resolve_padding("same", (2, 5)) == ((0, 1), (2, 2))
    assert resolve_padding("SAME", 4, dilation=3) == ((4, 5), (4, 5))
    assert conv2d(jnp.ones((1, 5, 6, 1)), jnp.ones((4, 2, 1, 1)), padding="same", dilation=(1, 2)).shape == (1, 5, 6, 1)
    ones = conv2d(jnp.ones((1, 1, 3, 1)), jnp.ones((1, 2, 1, 1)), padding="same")
    assert ones.ravel().tolist() == [2, 2, 1]


def test_groups_see_their_own_channels():
    x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    kernel = jnp.ones((1, 1, 2, 2))
    assert conv2d(x, kernel, groups=2).ravel().tolist() == [3, 7]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resolve_padding("sam", 3), "padding is 'sam'; give 'same', 'valid'"),
        (lambda: resolve_padding("same", 3, stride=2), "'same' needs stride 1, not 2"),
        (lambda: resolve_padding(-1, 3), "padding is -1"),
        (lambda: resolve_padding(((1, 2), 3), 3), "padding is"),  # pyright: ignore[reportArgumentType]
        (lambda: resolve_padding(((1, 2, 3), (0, 0)), 3), "padding is (1, 2, 3)"),
        (lambda: pair(2.5, "stride"), "stride is 2.5; give one number or (height, width), each 1 or more"),
        (lambda: pair(True, "stride"), "stride is True"),
        (lambda: pair((1, 2, 3), "stride"), "stride is (1, 2, 3)"),
        (lambda: pair(0, "dilation"), "dilation is 0"),
        (lambda: make_window((4, 4), 3, dilation=2), "a 3x3 window (dilation 2x2) needs a map of at least 5x5"),
        (lambda: make_window((0, 4), 1, padding=1), "here it is 2x6 with its padding"),
        (lambda: make_window((4,), 3), "maps [B,H,W,C]"),
        (lambda: conv2d(jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1, 2, 4))), "sees 2 x 1 channels"),
        (lambda: conv2d(jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1, 1, 4)), groups=3), "groups = 3 must divide both"),
    ],
)
def test_sizes_that_do_not_fit_are_told(call, message):
    with pytest.raises(UsageError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_ceil_mode_lets_a_window_stick_out_that_starts_inside():
    def outputs(size, **options):
        return make_window((size, size), ceil_mode=True, **options).output[0]

    assert outputs(6, kernel_size=3, stride=2) == 3  # floor: 2
    assert outputs(2, kernel_size=3, stride=2) == 1  # floor: does not fit
    assert (
        outputs(3, kernel_size=2, stride=2, padding=1) == 2
    )  # a third window would start in the padding after the map
    assert make_window((6, 5), 3, stride=2, ceil_mode=True).reach == ((0, 1), (0, 0))
    assert window_output((6, 6), (3, 3), (2, 2), ((0, 0), (0, 0)), (1, 1)) == (2, 2)


def test_an_impossible_size_names_the_layer():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Conv(2, 5, name="conv2")(Conv(2, 3, name="conv1")(x))

    with pytest.raises(UsageError, match=r"^layer conv2: a 5x5 window needs a map of at least 5x5, and here it is 3x3"):
        jax.eval_shape(Net().init, jax.random.key(0), jnp.ones((1, 5, 5, 1)))
    with pytest.raises(UsageError, match=r"^layer Conv: groups = 2 must divide both the 3 channels"):
        jax.eval_shape(Conv(4, 1, groups=2).init, jax.random.key(0), jnp.ones((1, 5, 5, 3)))


def test_jit_and_vmap_give_the_same():
    x, kernel = (
        jax.random.normal(jax.random.key(0), (2, 3, 5, 5, 2)),
        jax.random.normal(jax.random.key(1), (3, 3, 2, 4)),
    )
    plain = jnp.stack([conv2d(one, kernel, stride=2, padding=1) for one in x])
    mapped = jax.jit(jax.vmap(lambda one: conv2d(one, kernel, stride=2, padding=1)))(x)
    np.testing.assert_allclose(mapped, plain, rtol=1e-5, atol=1e-6)
