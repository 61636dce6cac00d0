# SPDX-License-Identifier: Apache-2.0
"""A functional JAX/Flax research codebase for convolutional networks."""

__version__ = "0.1.0"
