# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ssim as module

ssim = jax.jit(module.ssim)


def slow_ssim(x: np.ndarray, y: np.ndarray, window: int = 11, sigma: float = 1.5) -> float:
    """Equation 13 of Wang et al. 2004 of one channel, window by window."""
    distance = np.arange(window) - window // 2
    weights = np.exp(-(distance[:, None] ** 2 + distance[None] ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    found = []
    for top in range(x.shape[0] - window + 1):
        for left in range(x.shape[1] - window + 1):
            a, b = (z[top : top + window, left : left + window] for z in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            cov = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 0.01**2, 0.03**2
            found.append(
                (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return float(np.mean(found))


@pytest.mark.parametrize(("shape", "window"), [((16, 13, 2), 11), ((8, 14, 1), 7), ((7, 7, 1), 7), ((2, 2, 1), 1)])
def test_as_the_paper_s_formula_window_by_window(shape, window):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(2, *shape)).astype(np.float32)
    y = np.clip(x + rng.normal(0, 0.2, x.shape), 0, 1).astype(np.float32)
    slow = [
        np.mean([slow_ssim(a[..., c], b[..., c], window) for c in range(shape[2])]) for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ssim(jnp.asarray(x), jnp.asarray(y)), slow, atol=2e-5)
    np.testing.assert_allclose(ssim(jnp.asarray(x), jnp.asarray(x)), 1, atol=1e-6)


def test_constant_pictures_by_hand_and_a_finite_gradient():
    # Without variance the second factor is 1: (2 a b + c1) / (a^2 + b^2 + c1).
    x, y = jnp.full((1, 12, 12, 1), 0.25), jnp.full((1, 12, 12, 1), 0.75)
    np.testing.assert_allclose(ssim(x, y), (2 * 0.1875 + 1e-4) / (0.0625 + 0.5625 + 1e-4), rtol=1e-4)
    assert np.isfinite(jax.jit(jax.grad(lambda z: ssim(z, y).sum()))(x)).all()
