# SPDX-License-Identifier: Apache-2.0
import pytest

from cnnjax.bench import measure
from cnnjax.bench.measure import Side, Split, Spread, interleave, ratio, spread
from cnnjax.bench.report import bottleneck, format_rate, format_seconds


def test_spread_and_ratio():
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    # Medians 30 and 20; single rounds 10/5, 30/20, 60/40.
    assert ratio([10.0, 30.0, 60.0], [5.0, 20.0, 40.0]) == Spread(1.5, 1.5, 2.0)


class Clock:
    """Time that passes only in steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now, self.turns = 0.0, []
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)

    def side(self, name: str, seconds: float, batch_size: int) -> Side:
        def run(steps: int) -> int:
            self.turns.append((name, steps))
            self.now += seconds * steps
            return steps

        return Side(name, batch_size, run, 0.0)


def test_sides_take_turns_and_the_warm_up_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    sides = [clock.side("a", 0.5, 8), clock.side("b", 0.25, 4)]
    rates = interleave(sides, rounds=3, warmup=2, steps=5)
    assert rates == {"a": [16.0] * 3, "b": [16.0] * 3}
    assert [name for name, _ in clock.turns] == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [steps for _, steps in clock.turns] == [2, 2, *[5] * 6]


def test_a_turn_lasts_a_second_unless_steps_are_given(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    interleave([clock.side("quick", 0.125, 1), clock.side("slow", 3.0, 1)], rounds=1, warmup=3)
    assert clock.turns == [("quick", 2), ("quick", 1), ("slow", 2), ("slow", 1), ("quick", 8), ("slow", 1)]


@pytest.mark.parametrize(
    ("split", "peak_fraction", "word", "remedy"),
    [
        (Split(3.0, 1.0, 4.0, 0.0), 0.1, "data: ", "max_resident_gib"),
        (Split(0.0, 3.0, 4.0, 0.0), 0.1, "host: ", "steps_per_dispatch"),
        (Split(0.0, 0.1, 4.0, 3.0), 0.1, "preparing", "resampling"),
        (Split(0.0, 0.1, 4.0, 0.1), 0.1, "compute, at 10%", "profile"),
        (Split(0.0, 0.1, 4.0, 0.1), 0.8, "compute, at 80%", "near the limit"),
        (Split(0.0, 0.1, 4.0, 0.1), None, "compute", ""),
    ],
)
def test_the_bottleneck_in_words(split, peak_fraction, word, remedy):
    sentence = bottleneck(split, "train", peak_fraction)
    assert sentence.startswith(word) and remedy in sentence


def test_the_bottleneck_of_the_stream_alone():
    assert "gathering" in bottleneck(Split(0.0, 0.1, 4.0, 4.0), "input", None)


def test_figures():
    assert [format_rate(x) for x in (0.5123, 12.34, 1234.5)] == ["0.512", "12.3", "1,234"]
    assert [format_seconds(x) for x in (45.61e-6, 0.9999, 4.561, 123.4)] == ["45.6 µs", "1.00 s", "4.56 s", "123 s"]
