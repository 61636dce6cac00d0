# SPDX-License-Identifier: Apache-2.0
import pytest

from cnnjax.bench import batch_size
from cnnjax.bench.batch_size import Trial, best, find_best
from cnnjax.bench.measure import Side
from cnnjax.errors import RunError, UsageError

RATES = {4: 10.0, 8: 18.0, 16: 20.0, 32: 20.1, 64: 19.0, 128: 50.0}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch):
    """`make(limit, error)`: sides with the rates above, and an error from a batch of `limit` on."""
    monkeypatch.setattr(batch_size, "rate", lambda side, steps: RATES[side.batch_size])
    monkeypatch.setattr(batch_size, "_available_bytes", lambda: 1000)

    def maker(limit: int = 10**6, error: Exception | None = None, temp_bytes: int | None = None):
        def side(config):
            if config.data.batch_size >= limit and error is not None:
                raise error
            return Side("x", config.data.batch_size, lambda steps: steps, 0.0, temp_bytes=temp_bytes)

        return side

    return maker


def test_doubled_until_it_no_longer_pays(tiny, make):
    trials = find_best(tiny(), make())  # the config's batch is 16
    assert [trial.batch_size for trial in trials] == [4, 8, 16, 32, 64]
    assert best(trials) == 32


def test_until_memory_or_data_end(tiny, make):
    full = RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")
    trials = find_best(tiny(), make(16, full))
    assert trials[-1] == Trial(16, None, "out of memory") and best(trials) == 8
    assert find_best(tiny(), make(8, UsageError("a batch of 8 is larger")))[-1].reason == "a batch of 8 is larger"
    assert find_best(tiny(), make(temp_bytes=600))[-1] == Trial(8, None, "memory would not suffice")
    assert [trial.batch_size for trial in find_best(tiny(), make(), largest=8)] == [4, 8]
    with pytest.raises(RunError, match="no batch size works: out of memory"):
        find_best(tiny(), make(1, full))
    with pytest.raises(ZeroDivisionError):
        find_best(tiny(), make(8, ZeroDivisionError()))
