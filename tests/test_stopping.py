# SPDX-License-Identifier: Apache-2.0
import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from cnnjax.stopping import Stop, StopSignals, held_back, stopping_at_once


def ask(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_the_first_signal_asks_and_a_second_interrupt_ends():
    with StopSignals() as stop:
        ask(signal.SIGINT)
        assert stop.received == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            ask(signal.SIGINT)


def test_what_can_be_cut_short_is_and_nothing_else():
    with StopSignals() as stop:
        assert stop.unless_asked(lambda: 1) == 1
        done = []

        def long() -> int:
            ask()
            done.append("came to the end")
            return 2

        assert stop.unless_asked(long) is None and not done and stop.received == "SIGTERM"
        assert stop.unless_asked(lambda: 3) is None  # once asked, it is not even begun


def test_several_processes_stop_where_they_agree_and_not_before(monkeypatch):
    """Whichever of them gets the signal: Ctrl-C is passed on as the notice that JAX's runtime listens to."""
    sent, agreed = [], iter([False, False, True])
    monkeypatch.setattr("cnnjax.processes.several", lambda: True)
    monkeypatch.setattr("cnnjax.stopping.os.kill", lambda _, number: sent.append(number))
    monkeypatch.setattr("jax.experimental.multihost_utils.reached_preemption_sync_point", lambda _: next(agreed))
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert sent == [signal.SIGTERM] and stop.unless_asked(lambda: 2) == 2
        assert [stop.check(), stop.check(), stop.check()] == [False, False, True] and stop.received == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_between_steps_a_signal_ends_the_run_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stop) as caught, stopping_at_once():
        with StopSignals() as stop:  # inside, the trainer listens
            ask()
        assert stop.received
        ask()
    assert caught.value.exit_code == 143 and "SIGTERM between steps" in caught.value.told()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_is_not_lost_in_a_library_that_goes_on_after_errors():
    with pytest.raises(Stop), stopping_at_once(), contextlib.suppress(Exception):
        ask()


def test_a_signal_whose_exception_is_lost_stops_the_run_when_it_comes_to_its_steps():
    with stopping_at_once():
        with contextlib.suppress(BaseException):
            ask()
        with StopSignals() as stop:
            assert stop.received == "SIGTERM"
    with stopping_at_once(), StopSignals() as stop:
        assert stop.received is None


def test_an_error_that_a_signal_has_become_is_told_as_the_signal():
    def as_a_library_does() -> None:
        try:
            ask()
        except BaseException as error:
            raise ImportError("half imported") from error

    with pytest.raises(Stop) as caught, stopping_at_once():
        as_a_library_does()
    assert caught.value.exit_code == 143
    with pytest.raises(ImportError), stopping_at_once():
        raise ImportError("of another cause")


def test_a_signal_that_is_held_back_comes_afterwards():
    done = []
    with pytest.raises(Stop), stopping_at_once():
        with held_back():
            ask()
            done.append("imported")
        done.append("went on")
    assert done == ["imported"]


WAITING = """
import hashlib
from cnnjax.stopping import stopping_at_once
with stopping_at_once():
    print("waiting", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes; as the compiler, it gives Python no chance to raise
"""


def test_where_python_cannot_raise_the_process_ends_by_itself():
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    process.terminate()
    _, told = process.communicate(timeout=20)
    assert process.returncode == 143 and told.startswith("stopped by SIGTERM between steps")
