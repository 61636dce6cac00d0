# SPDX-License-Identifier: Apache-2.0
import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cnnjax.errors import RunError
from cnnjax.remote import lease as leases
from cnnjax.remote.lease import Lease, Succeeded, last_stage
from cnnjax.remote.store import Store

ROOT = Path(__file__).parents[2]
QUICK = {"renew_every": 0.02, "silent_for": 0.2}


@pytest.fixture
def store(bucket) -> Store:
    return Store("bucket://b/run", patience=0.05)


def held_by(store: Store, **told: object) -> None:
    """Makes the lease one of another process, far away unless told otherwise."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    far = {"state": "held", "owner": "o", "stage": "theirs", "host": "far", "machine": "m", "pid": 7, "renewed": now}
    store.write(f"{leases.FOLDER}/00000001.json", json.dumps({**far, "beat": 1, **told}).encode())


def test_the_second_is_refused_while_the_first_lives_and_not_after(store):
    first = Lease(store, "a", **QUICK)
    with pytest.raises(RunError, match=r"bucket://b/run is in use by process \d+ on .*: wait for it, stop it"):
        Lease(store, "b", **QUICK)
    assert last_stage(store) == "a"
    first.release()
    second = Lease(store, "b", **QUICK)
    assert second.previous == "a" and last_stage(store) == "b"
    second.release()


def test_of_many_at_once_one_gets_it(store):
    gate, got, refused = threading.Barrier(8), [], []

    def take(name: str) -> None:
        gate.wait()
        try:
            got.append(Lease(store, name, **QUICK))
        except RunError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and len(refused) == 7 and all("in use" in told for told in refused)
    got[0].release()


def test_one_who_died_on_this_machine_is_followed_at_once(store, caplog):
    code = "import json; from cnnjax.remote.lease import _process; print(json.dumps(_process()))"
    died = json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True).stdout)
    held_by(store, **died)
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        Lease(store, "b", renew_every=1.0, silent_for=30.0).release()
    assert time.monotonic() - start < 5
    assert f"process {died['pid']}" in caplog.text and "taking over" in caplog.text


def test_one_far_away_is_watched_and_followed_when_silent(store, caplog):
    held_by(store)
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        lease = Lease(store, "b", **QUICK)
    assert time.monotonic() - start >= QUICK["silent_for"]
    assert "process 7 on far" in caplog.text and lease.previous == "theirs"
    lease.release()


def test_one_far_away_that_renews_is_left_alone_whatever_its_clock_says(store):
    held_by(store, renewed=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 300)))
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.02):
            held_by(store, beat=time.monotonic_ns(), renewed="2020-01-01T00:00:00+00:00")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RunError, match="in use by process 7 on far"):
            Lease(store, "b", **QUICK)
    finally:
        ended.set()
        thread.join()


def test_one_silent_for_long_by_any_clock_is_not_waited_for(store):
    held_by(store, renewed="2020-01-01T00:00:00+00:00")
    start = time.monotonic()
    Lease(store, "b", renew_every=1.0, silent_for=30.0).release()
    assert time.monotonic() - start < 5


def test_a_holder_that_was_followed_learns_it_and_leaves_the_lease_alone(store, bucket):
    lease = Lease(store, "a", **QUICK)
    successor = json.dumps({"state": "held", "owner": "o", "host": "far", "pid": 7}).encode()
    store.write(f"{leases.FOLDER}/00000002.json", successor)
    time.sleep(0.1)
    with pytest.raises(Succeeded, match="another run goes on in bucket://b/run: process 7 on far"):
        lease.check()
    lease.release()
    assert store.read(f"{leases.FOLDER}/00000002.json") == successor


def test_where_nothing_may_be_written_it_is_told_before_anything_else(store, bucket):
    def deny(request: str, path: str) -> None:
        if request == "write":
            raise PermissionError("no")

    bucket.before = deny
    with pytest.raises(RunError, match="permission denied by bucket://b"):
        Lease(store, "a", **QUICK)
