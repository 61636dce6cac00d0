# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cnnjax.training_run import train_run
from cnnjax.verify.compare import Outcome, first_difference, largest_difference, numbers_apart, outcome


def made(kernel, loss: float = 0.5, **more) -> Outcome:
    return Outcome({"params/kernel": np.asarray(kernel, np.float32), **more}, {"1 train loss": loss})


def test_one_bit_is_a_difference_and_nothing_is_none():
    a = made([1.0, -2.0])
    assert first_difference(a, made([1.0, -2.0])) is None and largest_difference(a, made([1.0, -2.0])) == 0
    close = made([1.0, np.nextafter(np.float32(-2), np.float32(0))])
    assert first_difference(a, close) == "params/kernel"
    assert largest_difference(a, close) == pytest.approx(2**-24)
    assert first_difference(made([0.0]), made([-0.0])) == "params/kernel"  # equal, and yet not the same bits
    assert first_difference(made([np.nan]), made([np.nan])) is None


def test_what_one_side_lacks_differs_as_do_types_and_logged_numbers():
    a = made([1.0])
    assert first_difference(a, made([1.0], more=np.zeros(1))) == "more"
    assert first_difference(a, Outcome({"params/kernel": np.ones(1)}, a.numbers)) == "params/kernel"
    assert first_difference(a, made([1.0], loss=0.25)) == "1 train loss"
    assert largest_difference(a, made([1.0, 1.0])) == float("inf")
    assert largest_difference(made([4.0, 2.0]), made([4.0, 1.0])) == 0.25  # in units of the largest value


def test_all_that_a_run_ended_with_is_read_but_not_how_long_it_took(tiny, tmp_path):
    train_run(tiny("train.ema_decay=0.9"), str(tmp_path), draws=False)
    found = outcome(tmp_path)
    parts = {name.partition("/")[0] for name in found.arrays}
    assert parts == {"step", "params", "opt_state", "ema_params"} and found.arrays["step"] == 6
    assert {"6 train loss", "6 validation loss", "results last test loss"} <= set(found.numbers)
    assert not any("seconds" in name for name in found.numbers)


def test_logged_numbers_are_compared_relative_to_their_size_and_accuracies_not():
    a, b = (Outcome({}, {"1 train loss": loss, "1 train accuracy": loss}) for loss in (4.0, 3.0))
    assert numbers_apart(a, b) == 0.25 and numbers_apart(a, a) == 0
    assert numbers_apart(a, Outcome({}, {})) == float("inf")
    nan = Outcome({}, {"1 train loss": float("nan")})
    assert numbers_apart(nan, nan) == 0 and numbers_apart(a, nan) == float("inf")
