# SPDX-License-Identifier: Apache-2.0
"""The name of the layer in front of an error about sizes."""

import contextlib
from collections.abc import Iterator

import flax.linen as nn

from cnnjax.errors import UsageError


@contextlib.contextmanager
def errors_name(module: nn.Module) -> Iterator[None]:
    """Inside it a UsageError says which layer it comes from: its path in the network, or its class at the top.

    Raises:
      UsageError: the one raised inside, its message led by the layer.
    """
    try:
        yield
    except UsageError as error:
        raise UsageError(f"layer {'/'.join(module.path) or type(module).__name__}: {error}") from error
