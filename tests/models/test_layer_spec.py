# SPDX-License-Identifier: Apache-2.0
"""The lectures' questions about one layer: their worked numbers, and what is refused in one line."""

import json

import pytest

from cnnjax.commands import main
from cnnjax.errors import UsageError
from cnnjax.inspect.summary import summarize
from cnnjax.models.layer_spec import parse_layers


def layers(text, shape):
    """name: (output shape, parameters, neurons, multiply-adds, size of the field, jump)."""
    found = {}
    for layer in summarize(parse_layers(text), shape, text).layers:
        field = layer.receptive_field
        assert field is not None
        found[layer.name] = (*layer[2:4], layer.neurons, layer.macs, field.size[0], field.jump[0])
    return found


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        # One 3x3x3 filter on an 8x8x3 image: 27 weights and a bias, a 6x6 map.
        ("conv(3, 1, 3)", (8, 8, 3), {"conv": ((6, 6, 1), 28, 36, 36 * 27, 3, 1)}),
        ("conv(3,6,kernel_size=3)", (8, 8, 3), {"conv": ((6, 6, 6), 168, 216, 216 * 27, 3, 1)}),
        # 192 * 36 weights and 36 biases.
        (
            "flatten > dense(192, 36)",
            (8, 8, 3),
            {"flatten": ((192,), 0, 192, 0, 1, 1), "dense": ((36,), 6948, 36, 6912, 8, None)},
        ),
        ("conv(6, 10, 3)", (6, 6, 6), {"conv": ((4, 4, 10), 550, 160, 160 * 54, 3, 1)}),
        (
            "conv(3,6,3) > relu > conv(6,10,3)",
            (8, 8, 3),
            {"conv1": ((6, 6, 6), 168, 216, 216 * 27, 3, 1), "conv2": ((4, 4, 10), 550, 160, 160 * 54, 5, 1)},
        ),
        (
            "Conv2d(4, 8, (3, 1), stride=2, padding=(1, 0), dilation=1, groups=2, bias=False)>MaxPool2d(2)",
            (9, 9, 4),
            {
                "conv": ((5, 5, 8), 3 * 2 * 8, 200, 200 * 6, 3, 2),
                "max_pool": ((2, 2, 8), 0, 32, 0, 5, 4),
            },
        ),
        ("conv(1, 1, 3, padding='same', dilation=2)", (7, 7, 1), {"conv": ((7, 7, 1), 10, 49, 49 * 9, 5, 1)}),
        (
            "batch_norm(3) > avg_pool(3, 1, 1) > lrn > dropout(0.2) > ReLU() > linear(3, 2, bias=False)",
            (4, 4, 3),
            {
                "batch_norm": ((4, 4, 3), 6, 48, 0, 1, 1),
                "avg_pool": ((4, 4, 3), 0, 48, 0, 3, 1),
                "linear": ((4, 4, 2), 6, 32, 16 * 6, 3, 1),
            },
        ),
        (
            "max_pool(2) > max_pool(2, stride=1) > global_avg_pool",
            (8, 8, 1),
            {
                "max_pool1": ((4, 4, 1), 0, 16, 0, 2, 2),
                "max_pool2": ((3, 3, 1), 0, 9, 0, 4, 2),
                "global_avg_pool": ((1,), 0, 1, 0, 8, None),
            },
        ),
    ],
)
def test_layers_counted_by_hand(text, shape, expected):
    assert layers(text, shape) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("convv(3, 6, 3)", "unknown layer 'convv'; did you mean 'conv'?"),
        ("conv(3, 6, 3, strid=2)", "unknown argument of conv: 'strid'; did you mean 'stride'?"),
        ("conv(3, 6)", "missing a required argument: 'kernel_size'"),
        ("conv(3, 6, 3, kernel_size=3)", "multiple values for argument 'kernel_size'"),
        ("conv(4, 6, 3)", "layer conv: in_channels is 4, but 3 channels come to it"),
        ("relu > conv(3, 0, 3)", "layer conv: out_channels is 0; it takes a whole number"),
        ("conv(3, 6, 3, groups=2)", "layer conv: groups = 2 must divide"),
        ("conv(3, 6, 3.5)", "layer conv: kernel_size is 3.5"),
        ("conv(3, 6, n)", "the arguments of conv must be numbers"),
        ("dense(192, 36)", "layer dense: in_features is 192, but 3 channels come to it; put flatten before it"),
        ("conv(3, 6, 3", "is no layer or chain of layers; write 'conv(3, 6, kernel_size=3) > relu > max_pool(2)'"),
        ("conv(3, 6, 3) < relu", "is no layer or chain of layers"),
        ("", "is no layer or chain of layers"),
        ("conv(*[3, 6, 3])", "the arguments of conv must be numbers"),
        ("conv(**{'a': 1})", "is no layer or chain of layers"),
        ("__import__('os').system('touch hacked')", "is no layer or chain of layers"),
        ("conv(3, 6, __import__('os').system('touch hacked'))", "the arguments of conv must be numbers"),
        ("(" * 5000, "is no layer or chain of layers"),
        ("conv(3, 6, 9)", "layer conv: a 9x9 window needs a map of at least 9x9"),
        ("conv(3, 6, 9)", "; the smallest that works is 9x9"),
        ("global_avg_pool > global_avg_pool", "layer global_avg_pool2, given [1, 3]: IndexError"),
    ],
)
def test_what_is_wrong_is_one_line(text, message):
    with pytest.raises(UsageError) as caught:
        layers(text, (8, 8, 3))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command(capsys):
    assert main(["summary", "--layer=conv(3,6,kernel_size=3)", "--input=8x8x3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["layers"] == [
        {
            "name": "conv",
            "type": "conv",
            "output_shape": [6, 6, 6],
            "params": 168,
            "macs": 5832,
            "neurons": 216,
            "receptive_field": {"size": [3, 3], "jump": [1, 1], "start": [0, 0]},
        }
    ]
    assert main(["summary", "--layer", "conv(3,1,3)"]) == 2
    assert (
        capsys.readouterr().err == "error: --layer needs the shape of its input: --input=HxWxC, as in --input=8x8x3\n"
    )
    assert main(["summary", "--layer", "conv(3,1,3)", "--input=8x8"]) == 2
    assert capsys.readouterr().err.startswith("error: --input is '8x8'; write height, width and channels")
