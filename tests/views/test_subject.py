# SPDX-License-Identifier: Apache-2.0
"""What a view is drawn for: the layers that are chosen."""

import pytest

from cnnjax.errors import UsageError
from cnnjax.views.subject import spread_layers

NAMES = [f"conv{i}" for i in range(20)]


def test_many_layers_are_thinned_out_and_the_last_stays():
    layers = spread_layers(NAMES, None)
    assert len(layers) == 7 and layers[0] == "conv0" and layers[-1] == "conv19"
    assert spread_layers(NAMES[:3], None) == NAMES[:3]


def test_a_named_layer_is_the_only_one():
    assert spread_layers(NAMES, "conv5") == ["conv5"]
    with pytest.raises(UsageError, match="did you mean"):
        spread_layers(NAMES, "convv5")
