# SPDX-License-Identifier: Apache-2.0
"""Weights in and out: other frameworks' files to our parameters, strictly and by name, and back."""

from cnnjax.weights.export import export_safetensors

__all__ = ["export_safetensors"]
