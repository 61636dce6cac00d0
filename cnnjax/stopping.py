# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a run to end: SIGTERM (a scheduler, a preempted machine) and SIGINT (Ctrl-C)."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

from cnnjax import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 0.5
"""Seconds that Python gets to notice a signal; it cannot while the compiler works, which may take minutes."""

_T = TypeVar("_T")


class Stop(Exception):
    """The run was asked to end before its last step; everything is saved up to `step`, None: as far as it was."""

    def __init__(self, step: int | None, signal_name: str):
        super().__init__(f"{signal_name} at step {step}")
        self.step = step
        self.signal_name = signal_name

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells count."""
        return 128 + signal.Signals[self.signal_name]

    def told(self) -> str:
        """What the user reads."""
        if self.step is None:
            return f"stopped by {self.signal_name} between steps; the same command goes on from what is saved"
        return f"stopped by {self.signal_name} at step {self.step}, which is saved; the same command goes on from there"


class _CutShort(BaseException):
    """Ends what a signal may end at once."""


_calls = itertools.count()  # of JAX's protocol: each process asks equally often, and it agrees on one of the calls


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only asks the run to stop; a second SIGINT ends it at once.

    Of several processes any may receive it. JAX's runtime, which takes SIGTERM itself, tells the others and has all
    stop after the same number of calls; until then nobody waits for anybody.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._cuts = False
        self._interrupted = False

    def __enter__(self) -> "StopSignals":
        taken = (signal.SIGINT,) if processes.several() else SIGNALS
        self._before = {number: signal.signal(number, self._handle) for number in taken}
        earlier = [handler.received for handler in self._before.values() if isinstance(handler, _AtOnce)]
        self.received = next(filter(None, earlier), None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> bool:
        """Whether the run stops here; to be asked after each call of the compiled steps."""
        if processes.several() and not self.received:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(next(_calls)):
                self.received = "SIGINT" if self._interrupted else "SIGTERM"
        return self.received is not None

    def unless_asked(self, run: Callable[[], _T]) -> _T | None:
        """`run()`, or None when a signal has come or comes meanwhile, which cuts it short.

        Of several processes each gets its signals at another moment, but all must do the same: they come to the end.
        """
        if processes.several():
            return run()
        if self.received:
            return None
        try:
            self._cuts = True
            try:
                return run()
            finally:
                self._cuts = False
        except _CutShort:
            return None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if (self.received or self._interrupted) and number == signal.SIGINT:
            raise KeyboardInterrupt
        if processes.several():
            self._interrupted = True
            os.kill(os.getpid(), signal.SIGTERM)  # the notice that JAX's runtime passes on
            return
        self.received = signal.Signals(number).name
        if self._cuts:
            self._cuts = False
            raise _CutShort


class _AtOnce:
    """Cuts short what a signal finds, and remembers it.

    What is raised may be lost where the signal comes: in a destructor, or in a library that goes on after any error.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.noticed = threading.Event()
        self.waits = False  # `held_back`

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        if not self.waits:
            self.cut()

    def cut(self) -> None:
        """Raises."""
        self.noticed.set()
        raise _CutShort


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """While entered, and no StopSignals are, a signal raises Stop: between its steps a run has nothing to save.

    Where Python cannot raise because it waits for the compiler, the process ends by itself after PATIENCE. Where what
    is raised is lost, the run stops when it comes to its steps: StopSignals know of the signal.
    Several processes come to their next step first: they stop together.
    """
    if (
        processes.several() or threading.current_thread() is not threading.main_thread()
    ):  # where Python takes no signals
        yield
        return
    handle = _AtOnce()

    def watch() -> None:
        while number := os.read(reading, 1)[0]:
            if signal.getsignal(number) is handle and not handle.noticed.wait(PATIENCE):
                _end(Stop(None, signal.Signals(number).name))

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before: dict[int, Any] = {number: signal.signal(number, handle) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, name="stop signals", daemon=True)
    watcher.start()
    try:
        yield
    except Stop:
        raise
    except BaseException as error:  # of the signal's, a library may have made an error of its own
        if handle.received is None:
            raise
        raise Stop(None, handle.received) from error
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writing, bytes(1))  # ends the watcher; no signal has this number
        watcher.join()
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Within `stopping_at_once`, a signal waits until it is left, or for PATIENCE, when the process ends.

    For imports and the start of a backend: libraries of C++ may crash, or hang at the end, where an exception cuts them
    short.
    """
    handle = signal.getsignal(signal.SIGINT)
    if not isinstance(handle, _AtOnce):
        yield
        return
    handle.waits = True
    try:
        yield
    finally:
        handle.waits = False
    if handle.received:
        handle.cut()


def _end(stop: Stop) -> None:
    for child in multiprocessing.active_children():  # those that read data would outlive the process
        child.terminate()
    print(stop.told(), file=sys.stderr, flush=True)
    os._exit(stop.exit_code)
