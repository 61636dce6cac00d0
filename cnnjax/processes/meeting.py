# SPDX-License-Identifier: Apache-2.0
"""All processes meet before they begin: who is missing is named, and who would compute something else.

JAX's runtime ends a process by SIGABRT when another does not come, and processes that run different programs wait for
each other for ever. So process 0 listens first itself, on the port that JAX's coordinator takes afterwards; the
others tell who they are and what they are about to run, and all are told the same: go, or why not.
"""

import logging
import selectors
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from cnnjax.errors import RunError
from cnnjax.processes.lines import Line
from cnnjax.processes.place import Place

logger = logging.getLogger(__name__)

_VERSION = 1  # of what is said here
_PATIENCE = 10.0  # seconds after which who is missing is told for the first time
_SHOWN = 3  # differences in a message

Facts = Mapping[str, Any]
"""What must be the same in all processes, by name; `error`: why this one cannot run at all."""


class Company(NamedTuple):
    """The processes that met.

    Attributes:
      hosts: of each process.
      lines: the connections of process 0 to the others, by process; those of another one: to process 0 only.
    """

    hosts: list[str]
    lines: dict[int, Line]


def meet(place: Place, facts: Facts, seconds: float) -> Company:
    """Waits until all processes are there and want the same.

    Args:
      place: of this process.
      facts: of this process.
      seconds: for how long.

    Raises:
      RunError: a process is missing, or wants something else; all of them raise it.
    """
    told = {"cnnjax": _VERSION, **place._asdict(), "host": socket.gethostname(), "facts": dict(facts)}
    return _host(place, told, seconds) if place.process_id == 0 else _join(place, told, seconds)


def _host(place: Place, told: dict[str, Any], seconds: float) -> Company:
    """Process 0: collects the others, judges and tells them."""
    guests: dict[Line, dict[str, Any]] = {}
    deadline, next_report = time.monotonic() + seconds, time.monotonic() + min(_PATIENCE, seconds / 2)
    with _listen(place) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while (missing := _missing(place, guests)) and (now := time.monotonic()) < deadline:
            if now > next_report:
                logger.info("waiting for %s, for %.0f s more", missing, deadline - now)
                next_report = now + 3 * _PATIENCE
            for key, _ in selector.select(min(1.0, deadline - now)):
                if key.fileobj is listener:
                    line = Line(listener.accept()[0])
                    selector.register(line, selectors.EVENT_READ)
                    continue
                line = key.fileobj
                assert isinstance(line, Line)
                try:
                    for message in line.receive():
                        if message["cnnjax"] != _VERSION or not isinstance(message["facts"], dict):
                            raise ValueError
                        guests[line] = message
                except (OSError, ValueError, KeyError):  # a stranger; or a process that is started again
                    selector.unregister(line)
                    guests.pop(line, None)
                    line.close()
    problem = _problem(place, told, guests) or (
        f"{missing} did not come within {seconds:.0f} s; start all {place.num_processes} with the same --coordinator "
        f"(this one listens on port {_address(place)[1]} of {told['host']})"
        if missing
        else None
    )
    hosts = {0: told["host"]} | {guest["process_id"]: guest["host"] for guest in guests.values()}
    answer = {"problem": problem, "hosts": [hosts.get(i) for i in range(place.num_processes)]}
    for line in guests:
        try:
            line.send(answer)
        except OSError:
            problem = problem or f"process {guests[line]['process_id']} ({guests[line]['host']}) left at the beginning"
    if problem:
        for line in guests:
            line.close()
        raise RunError(problem)
    return Company(answer["hosts"], {guest["process_id"]: line for line, guest in guests.items()})


def _listen(place: Place) -> socket.socket:
    port = _address(place)[1]
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise RunError(
            f"process 0 cannot listen on port {port} of --coordinator={place.coordinator}: {error.strerror}; take "
            "another port, the same for all processes"
        ) from error


def _missing(place: Place, guests: Mapping[Line, dict[str, Any]]) -> str:
    there = {guest["process_id"] for guest in guests.values()}
    missing = [i for i in range(1, place.num_processes) if i not in there]
    # One that cannot run, or was started otherwise, is told of at once.
    if not missing or any("error" in guest["facts"] for guest in guests.values()) or _misplaced(place, guests):
        return ""
    some = ", ".join(map(str, missing[:20])) + ", ..." * (len(missing) > 20)
    return f"process{'es' if len(missing) > 1 else ''} {some} of {place.num_processes}"


def _misplaced(place: Place, guests: Mapping[Line, dict[str, Any]]) -> str | None:
    seen: dict[int, str] = {0: "process 0 itself"}
    for guest in guests.values():
        number, name = guest["process_id"], f"a process on {guest['host']}"
        if guest["num_processes"] != place.num_processes:
            return (
                f"{name} was told of {guest['num_processes']} processes and process 0 of {place.num_processes}; give "
                "all the same --num_processes"
            )
        if number in seen:
            return f"{seen[number]} and {name} both are --process_id={number}; give each its own"
        seen[number] = name
    return None


def _problem(place: Place, told: dict[str, Any], guests: Mapping[Line, dict[str, Any]]) -> str | None:
    """Why these processes cannot run together."""
    if misplaced := _misplaced(place, guests):
        return misplaced
    ours = told["facts"]
    if "error" in ours:
        return f"process 0 ({told['host']}): {ours['error']}"
    for guest in sorted(guests.values(), key=lambda guest: guest["process_id"]):
        who, theirs = f"process {guest['process_id']} ({guest['host']})", guest["facts"]
        if "error" in theirs:
            return f"{who}: {theirs['error']}"
        differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        if differing:
            shown = "; ".join(f"{n} {theirs.get(n)} and not {ours.get(n)}" for n in differing[:_SHOWN])
            more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
            return f"{who} differs from process 0: {shown}{more}; start all with the same code, packages and flags"
    return None


def _join(place: Place, told: dict[str, Any], seconds: float) -> Company:
    """Every other process: finds process 0, tells it who it is, and waits for its word."""
    deadline, reason = time.monotonic() + seconds, "no answer"
    line = None
    while line is None and time.monotonic() < deadline:
        try:
            line = Line(socket.create_connection(_address(place), timeout=5))
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(0.3)
    if line is not None:
        try:
            line.send(told)
            line.socket.settimeout(max(deadline - time.monotonic(), 0) + 30)  # process 0 may have begun later
            messages: list[dict[str, Any]] = []
            while not messages:
                messages = line.receive()
            answer = messages[0]
            if answer["problem"]:
                line.close()
                raise RunError(answer["problem"])
            line.socket.settimeout(10)
            return Company(answer["hosts"], {0: line})
        except (OSError, ValueError, KeyError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            line.close()
    raise RunError(
        f"process 0 did not answer at {place.coordinator} within {seconds:.0f} s ({reason}); start it, or give the "
        "right --coordinator=HOST:PORT"
    )


def _address(place: Place) -> tuple[str, int]:
    host, _, port = place.coordinator.rpartition(":")
    return host.strip("[]"), int(port)
