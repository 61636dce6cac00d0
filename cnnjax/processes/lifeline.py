# SPDX-License-Identifier: Apache-2.0
"""The connections between process 0 and the others, for the whole run: who ends, and how, is known to all at once.

A process that loses another would wait in a collective operation for ever, or be ended by SIGABRT after minutes, and
never say which one went. Here a thread hears it: a connection that closes, or 45 s without a sign of life. It prints
one line and ends the process, whatever the main thread is waiting for.
"""

import contextlib
import os
import queue
import selectors
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from cnnjax.errors import RunError
from cnnjax.processes.lines import Line
from cnnjax.processes.meeting import Company

BEAT = 5.0  # seconds between signs of life
SILENT_BEATS = 9  # without one from the other side, and it is taken for lost
_GRACE = 5.0  # seconds for last words to go round
AGAIN = "all processes end here; start them again, and the run goes on from its last checkpoint"


def end_process(line: str, code: int) -> NoReturn:
    """Says one line and ends the process at once: what else runs in it may wait for the lost one."""
    print(f"\n{line}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Lifeline:
    """This process's connections to the others. One thread reads; a lost process ends this one by `end`."""

    def __init__(
        self,
        process_id: int,
        company: Company,
        *,
        end: Callable[[str, int], Any] = end_process,
        beat: float = BEAT,
        silent_beats: int = SILENT_BEATS,
    ):
        self.process_id = process_id
        self.hosts = company.hosts
        self._lines = dict(company.lines)
        self._end, self._beat, self._silent_beats = end, beat, silent_beats
        self._silence = dict.fromkeys(self._lines, 0)
        self._values: queue.Queue[Any] = queue.Queue()
        self._facts: dict[int, queue.Queue[Any]] = {process: queue.Queue() for process in self._lines}
        self._done: set[int] = set()  # processes that have nothing left to do
        self._failing = threading.Event()  # the main thread tells its own error
        self._over = threading.Event()  # all are done, or the end of one is known
        self._ending = threading.Lock()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen, name="lifeline", daemon=True)
        self._thread.start()

    def name(self, process: int) -> str:
        """What messages call a process."""
        return f"process {process} ({self.hosts[process]})"

    def share(self, value: Any) -> Any:
        """What process 0 calls it with, a JSON value; the others, whose argument is not used, wait for it."""
        if self.process_id:
            return self._values.get()
        self._tell_all({"value": value})
        return value

    def check_same(self, what: str, value: Any) -> None:
        """Raises RunError in process 0 when another one called it with another value; waits for all of them there."""
        if self.process_id:
            self._tell(0, self._lines[0], {"fact": value})
            return
        for process, facts in self._facts.items():
            theirs = facts.get()
            if theirs != value:
                raise RunError(f"{self.name(process)} has other {what} than process 0: {theirs} and not {value}")

    def finish(self) -> None:
        """Returns when all processes have called it; process 0 may have more to do than the others."""
        if self.process_id:
            self._tell(0, self._lines[0], {"done": True})
            self._over.wait()
        else:
            with self._changed:
                self._changed.wait_for(lambda: self._done >= set(self._lines))
            self._over.set()
            self._tell_all({"end": None})
        self.close()

    def close(self) -> None:
        """Ends the connections: what happens to the others is none of this process's business any more."""
        self._over.set()
        self._thread.join(_GRACE)
        for line in list(self._lines.values()):
            line.close()

    def fail(self, text: str, code: int) -> None:
        """Tells all others why this process ends, and ends it; `text` is one line."""
        self._failing.set()
        line = f"{self.name(self.process_id)}: {text}"
        self._tell_all({"failed": line, "code": code})
        if self.process_id:
            self._over.wait(_GRACE)  # the word of process 0 comes back and ends this one
        else:
            with self._changed:
                self._changed.wait_for(lambda: not self._lines, _GRACE)
        self._say_and_end(text, code)

    def wait_for_news(self) -> None:
        """Gives a lost process the time to be noticed, which ends this one: its loss is felt as an error first."""
        self._over.wait(_GRACE)

    def _tell_all(self, message: Mapping[str, Any]) -> None:
        for process, line in list(self._lines.items()):
            self._tell(process, line, message)

    def _tell(self, process: int, line: Line, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the thread that listens notices
            line.send(dict(message))

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for process, line in self._lines.items():
                selector.register(line, selectors.EVENT_READ, process)
            next_beat = time.monotonic() + self._beat
            while not self._over.is_set() and selector.get_map():
                for key, _ in selector.select(max(0.0, min(next_beat - time.monotonic(), 0.5))):
                    process, line = key.data, key.fileobj
                    assert isinstance(line, Line)
                    try:
                        messages = line.receive()
                        self._silence[process] = 0
                    except (OSError, ValueError) as error:
                        selector.unregister(line)
                        self._lost(process, str(error))
                        continue
                    for message in messages:
                        self._hear(process, message)
                # Beats are counted and not seconds: a machine that slept, or a stopped group of processes, goes on.
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + self._beat
                    self._count_beat()

    def _count_beat(self) -> None:
        for process, line in list(self._lines.items()):
            self._tell(process, line, {"beat": None})
            self._silence[process] += 1
            if self._silence[process] > self._silent_beats:
                self._lost(process, f"no sign of life for {self._beat * self._silent_beats:.0f} s")

    def _hear(self, process: int, message: Mapping[str, Any]) -> None:
        if "value" in message:
            self._values.put(message["value"])
        elif "fact" in message:
            self._facts[process].put(message["fact"])
        elif "done" in message:
            with self._changed:
                self._done.add(process)
                self._changed.notify_all()
        elif "end" in message:
            self._over.set()
        elif "failed" in message:
            self._failed(message["failed"], int(message.get("code", 1)))

    def _lost(self, process: int, how: str) -> None:
        with self._changed:
            self._lines.pop(process).close()
            self._changed.notify_all()
            if process in self._done or self._over.is_set():
                return
        self._failed(f"{self.name(process)} is gone: {how}; {AGAIN}", 1)

    def _failed(self, line: str, code: int) -> None:
        """One process ended: process 0 tells the others; each says so and ends, unless it has its own error to tell."""
        if not self.process_id:
            if self._failing.wait(1.0):  # what ends all of them alike is told by process 0
                return
            self._tell_all({"failed": line, "code": code})
        self._say_and_end(line, code)

    def _say_and_end(self, line: str, code: int) -> None:
        if self._ending.acquire(blocking=False):  # the first of the two threads; nobody lets go of it
            self._over.set()
            self._end(f"error: {line}", code)
