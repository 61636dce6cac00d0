# SPDX-License-Identifier: Apache-2.0
"""What is tabulated on the host."""

import numpy as np
from scipy.special import ndtri

from cnnjax.augment.arithmetic import LEVELS, normal_levels


def test_normal_numbers_are_those_of_equal_shares():
    np.testing.assert_allclose(normal_levels(), ndtri((np.arange(LEVELS) + 0.5) / LEVELS), rtol=1e-12, atol=1e-15)
