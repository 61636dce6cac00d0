# SPDX-License-Identifier: Apache-2.0
import pytest

from cnnjax.config import difference
from cnnjax.ensemble.configs import is_ensemble, member_configs, program, varied
from cnnjax.errors import UsageError


def test_a_member_has_the_config_of_the_separate_run(tiny):
    members = member_configs(tiny("seed=4", "ensemble_size=3"))
    assert [difference(tiny(f"seed={seed}"), own) for seed, own in zip((4, 5, 6), members, strict=True)] == [[]] * 3
    assert not any(map(is_ensemble, members)) and is_ensemble(tiny("ensemble_size=3"))
    assert not is_ensemble(tiny())


def test_seeds_and_learning_rates_tell_the_size(tiny):
    told = [(m.seed, m.optimizer.learning_rate) for m in member_configs(tiny("ensemble_seeds=(7,3)"))]
    assert told == [(7, 0.05), (3, 0.05)]
    rates = tiny("ensemble_learning_rates=(0.1,0.2)", "ensemble_size=2", "seed=5")
    assert [(m.seed, m.optimizer.learning_rate) for m in member_configs(rates)] == [(5, 0.1), (6, 0.2)]
    same_seed = tiny("ensemble_learning_rates=(0.1,0.2)", "ensemble_seeds=(1,1)")
    assert [m.seed for m in member_configs(same_seed)] == [1, 1]


def test_an_ensemble_that_cannot_be_is_one_line(tiny):
    for overrides, message in (
        (("ensemble_size=0",), r"config.ensemble_size = 0 is out of range: it must be 1 or more"),
        (("ensemble_seeds=(1,2,1)",), r"config.ensemble_seeds names 1 twice: members 0 and 2"),
        (("ensemble_seeds=(1,2)", "ensemble_size=3"), r"disagree: config.ensemble_seeds 2 and config.ensemble_size 3"),
        (("ensemble_seeds=(1,2)", "ensemble_learning_rates=(0.1,)"), "disagree"),
        (("ensemble_seeds=(-1,2)",), r"out of range: it must be numbers in 0\.\.2\^31 - 1, in brackets"),
        (("ensemble_learning_rates=(0.1,0.0)",), "it must be numbers above 0"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            member_configs(tiny(*overrides))
        assert "\n" not in str(error.value)


def test_configs_share_a_program_when_they_differ_in_numbers_that_can_be_traced(tiny):
    base = tiny("optimizer.weight_decay=1e-3")
    alike = tiny("optimizer.weight_decay=1e-4", "seed=3", "optimizer.learning_rate=0.2", "optimizer.momentum=0.5")
    assert program(base) == program(alike)
    assert varied([base, alike]) == ["learning_rate", "momentum", "weight_decay"]
    for other in ("optimizer.weight_decay=0.0", "model.hidden=(9,)", "data.batch_size=8", "schedule.name=cosine"):
        assert program(base) != program(tiny("optimizer.weight_decay=1e-3", other)), other
    adamw = ("optimizer.name=adamw", "optimizer.weight_decay")  # applies it whether it is 0 or not
    assert program(tiny(adamw[0], f"{adamw[1]}=0.0")) == program(tiny(adamw[0], f"{adamw[1]}=0.1"))
