# SPDX-License-Identifier: Apache-2.0
"""Processes that meet and lose each other, here as threads on the loopback interface."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cnnjax.errors import RunError
from cnnjax.processes import facts
from cnnjax.processes.lifeline import Lifeline
from cnnjax.processes.lines import Line
from cnnjax.processes.meeting import Company, meet
from cnnjax.processes.place import Place

FACTS = {"command": "train", "config.seed": 0}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def meeting(*who, seconds: float = 5.0, num_processes: int | None = None) -> list[Any]:
    """What becomes of each (process_id, facts) that comes: a Company, or the text of its error."""
    address, number = f"127.0.0.1:{free_port()}", num_processes or len(who)

    def come(one):
        place = Place(address, one[2] if len(one) > 2 else number, one[0], None, "the test")
        try:
            return meet(place, one[1], seconds)
        except RunError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(come, who))


def test_all_that_come_are_connected():
    *others, first = meeting((2, FACTS), (1, FACTS), (0, FACTS))
    assert sorted(first.lines) == [1, 2] and all(len(company.hosts) == 3 for company in (first, *others))
    first.lines[2].send({"to": 2})
    assert others[0].lines[0].receive() == [{"to": 2}]
    for company in (first, *others):
        for line in company.lines.values():
            line.close()


def test_who_is_missing_is_named():
    told = meeting((0, FACTS), (2, FACTS), seconds=0.5, num_processes=5)
    assert all("processes 1, 3, 4 of 5 did not come within" in text for text in told)
    assert "process 0 did not answer at 127.0.0.1:" in meeting((1, FACTS), seconds=0.5, num_processes=2)[0]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ((1, FACTS | {"config.seed": 1}), "differs from process 0: config.seed 1 and not 0; start all with the same"),
        ((1, FACTS | {"jax": "0.1"}), "differs from process 0: jax 0.1 and not None"),
        ((1, {"error": "unknown key"}), "): unknown key"),
        ((1, FACTS, 3), "was told of 3 processes and process 0 of 2; give all the same --num_processes"),
        ((0, FACTS), "cannot listen on port"),
    ],
)
def test_who_would_run_something_else_is_named(other, told):
    outcomes = meeting((0, FACTS), other, seconds=1.0)
    assert any(told in text for text in outcomes if isinstance(text, str)), outcomes


def test_two_that_claim_one_place_are_told_apart():
    outcomes = meeting((0, FACTS), (1, FACTS), (1, FACTS), num_processes=3)
    assert all("both are --process_id=1; give each its own" in text for text in outcomes)


def test_strangers_are_sent_away():
    port = free_port()
    with ThreadPoolExecutor() as pool:
        place = Place(f"127.0.0.1:{port}", 2, 0, None, "the test")
        first = pool.submit(meet, place, FACTS, 5.0)
        for bytes_ in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"{}\n", b"\xff\n", b'{"cnnjax": 1}\n', b""):
            for _ in range(50):
                try:
                    stranger = socket.create_connection(("127.0.0.1", port))
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            stranger.sendall(bytes_)
            stranger.close()
        other = pool.submit(meet, place._replace(process_id=1), FACTS, 5.0)
        for company in (first.result(), other.result()):
            company.lines.popitem()[1].close()


def test_the_facts_hold_the_config_and_the_code(tmp_path):
    own = tmp_path / "net.py"
    own.write_text("1")
    config = {"seed": 1, "model": {"name": f"{own}:net", "hidden": (8,)}}
    before = facts("train", config)
    assert before["config.model.hidden"] == [8] and before["jax"] and before["config.seed"] == 1
    own.write_text("2")
    assert facts("train", config)["code"] != before["code"]


def connected() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


@pytest.fixture
def lifelines():
    """`lifelines(number)`: of so many processes, with an event for the end of each; what each says; its connections."""
    opened = []

    def make(number: int, **options):
        pairs = {i: connected() for i in range(1, number)}
        lines = [{i: Line(pair[0]) for i, pair in pairs.items()}, *({0: Line(pair[1])} for pair in pairs.values())]
        endings = [[] for _ in range(number)]
        ours = []
        for i in range(number):
            ended = threading.Event()

            def end(line, code, i=i, ended=ended):
                endings[i].append((line, code))
                ended.set()

            company = Company([f"host{k}" for k in range(number)], lines[i])
            ours.append((Lifeline(i, company, end=end, **options), ended))
            opened.append((ours[-1][0], lines[i]))
        return ours, endings, lines

    yield make
    for lifeline, lines in opened:
        lifeline.close()
        for line in lines.values():
            line.close()


def wait(*events):
    assert all(event.wait(10) for event in events)


def test_a_lost_process_is_named_to_all_others(lifelines):
    ours, endings, lines = lifelines(3)
    lines[2][0].socket.shutdown(socket.SHUT_RDWR)  # as the kernel does when a process is killed
    wait(ours[0][1], ours[1][1])
    for ending in endings[:2]:
        [(line, code)] = ending
        assert line.startswith("error: process 2 (host2) is gone: its connection closed; all processes end here")
        assert code == 1


def test_a_lost_first_process_is_named(lifelines):
    ours, endings, lines = lifelines(3)
    for line in lines[0].values():
        line.socket.shutdown(socket.SHUT_RDWR)
    wait(ours[1][1], ours[2][1])
    assert endings[1][0][0].startswith("error: process 0 (host0) is gone")


def test_a_frozen_process_is_named():
    pair, ended, told = connected(), threading.Event(), []

    def end(*ending):
        told.append(ending)
        ended.set()

    lifeline = Lifeline(0, Company(["a", "b"], {1: Line(pair[0])}), end=end, beat=0.05, silent_beats=3)
    wait(ended)
    assert "process 1 (b) is gone: no sign of life" in told[0][0]
    lifeline.close()
    pair[1].close()


def test_the_last_words_of_a_process_reach_all(lifelines):
    ours, endings, _ = lifelines(3)
    ours[1][0].fail("disk full", 7)
    wait(*(ended for _, ended in ours))
    assert endings[0] == endings[2] == endings[1] == [("error: process 1 (host1): disk full", 7)]


def test_what_ends_all_of_them_alike_is_told_by_the_first(lifelines):
    ours, endings, _ = lifelines(2)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda one: one[0].fail("loss is nan", 1), ours))
    assert endings[0] == [("error: loss is nan", 1)] and endings[1] == [("error: process 0 (host0): loss is nan", 1)]


def test_values_facts_and_the_end_are_common(lifelines):
    ours, endings, _ = lifelines(3)
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda one: one[0].share([one[0].process_id]), ours)) == [[0]] * 3
        list(pool.map(lambda one: one[0].check_same("data", 5), ours))
        different = [pool.submit(one[0].check_same, "data", i) for i, one in enumerate(ours)]
        with pytest.raises(RunError, match=r"process 1 \(host1\) has other data than process 0: 1 and not 0"):
            different[0].result()
        list(pool.map(lambda one: one[0].finish(), ours))
    assert endings == [[], [], []]
