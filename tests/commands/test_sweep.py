# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from cnnjax.commands import main

DATA = (
    "--config.data.source=synthetic",
    "--config.data.synthetic.num_examples=32",
    "--config.data.synthetic.image_shape=(4,4,1)",
    "--config.data.batch_size=8",
    "--config.model.hidden=(4,)",
    "--config.train.num_steps=2",
)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("sweep", "--config.seed=0,1"), "no workdir given"),
        (("sweep", "--config.seed=0,1", "--workdir=x", "--at_once=0"), "--at_once is 0; it must be 1 or more"),
        (("sweep", "--config.seed=0", "--workdir=x"), "the grid has no points"),
        (("ensemble", "--config.ensemble_size=2", "--ways=vmapp"), "did you mean 'vmap'"),
        (("ensemble", "--config.ensemble_size=2", "--rounds=0"), "--rounds must be 1 or more"),
        (("ensemble",), "one network is no ensemble: give --config.ensemble_size=8"),
    ],
)
def test_wrong_usage_is_one_line(argv, message, capsys):
    assert main([argv[0], "--config=experiments/default.py", *argv[1:]]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_ways_are_timed_against_separate_runs(capsys):
    argv = ["ensemble", "--config=experiments/default.py", *DATA, "--config.ensemble_size=2", "--ways=vmap,turns"]
    assert main([*argv, "--rounds=1", "--seconds=0.01", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (
        measured["members"] == 2
        and measured["chosen"] == "vmap"
        and list(measured["ways"])
        == [
            "separate",
            "vmap",
            "turns",
        ]
    )
    assert measured["ways"]["separate"]["ratio"] == 1.0
    for each in measured["ways"].values():
        rates = each["images_per_second"]
        assert 0 < rates["min"] <= rates["median"] <= rates["max"]
