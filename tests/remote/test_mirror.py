# SPDX-License-Identifier: Apache-2.0
"""What is sent can be fetched elsewhere, whatever happens in between."""

import logging
import time

import pytest

from cnnjax import checkpoint as checkpoint_module
from cnnjax.errors import RunError, UsageError
from cnnjax.remote import commits, stage
from cnnjax.remote.fetching import fetch
from cnnjax.remote.sending import Mirror, Sender
from cnnjax.remote.stage import Stage
from cnnjax.remote.store import Store

URL = "bucket://b/runs/one"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def store(bucket, machine) -> Store:
    return Store(URL, patience=0.05)


def fetched(store: Store, which: str | None = commits.ALL, trained_by: str | None = None) -> Stage:
    place = Stage(URL)
    fetch(store, place, which, trained_by)
    return place


def steps(place: Stage) -> list[int]:
    return [int(path.rpartition("/")[2]) for path in place.checkpoints()]


def test_the_folders_have_the_names_that_the_checkpoints_give_them():
    assert (stage.CHECKPOINTS, stage.DAMAGED) == (checkpoint_module.FOLDER, checkpoint_module.DAMAGED)


def test_all_of_a_run_comes_back_on_another_machine(store, machine, fake_run, files_of):
    here = Stage(URL)
    run = fake_run(here, keep=2)
    for name in ("member0/config.json", "tensorboard/events.1", "see/top.png", "ä b.txt"):
        run.write(name, name)
    for step in (1, 2, 3):
        run.step(step)
    for name in (".lock", ".config.json.7.tmp", "damaged/1/x", "checkpoints/4.orbax-checkpoint-tmp/x"):
        run.write(name, "not sent")
    Mirror(store, here, {}).send(everything=True)
    machine("b")
    there = fetched(store)
    sent = {name: content for name, content in files_of(here.folder).items() if content != b"not sent"}
    assert files_of(there.folder) == sent and len(sent) == 6 + 2 * 4 and steps(there) == [2, 3]


def test_a_process_killed_at_any_request_leaves_a_bucket_that_goes_on(
    store, bucket, machine, fake_run, files_of, checkpoint_files, monkeypatch, tmp_path
):
    """Every prefix of the requests: the newest commit is whole, is as new as was promised, and has all its records."""
    requests, survived = 0, 0
    while True:
        monkeypatch.setattr(bucket, "objects", {})
        machine(f"sender{requests}")
        left, committed = requests, 0

        def count(request: str, path: str) -> None:
            nonlocal left
            if request in ("write", "delete"):
                if left == 0:
                    raise Killed
                left -= 1

        here = Stage(URL)
        run, mirror = fake_run(here), Mirror(store, here, {})
        bucket.before = count
        try:
            for step in (1, 2, 3):
                run.step(step)
                mirror.send()
                committed = step
            done = True
        except Killed:
            done = False
        bucket.before = lambda request, path: None
        machine(f"reader{requests}")
        there = fetched(store)
        newest = max(steps(there), default=0)
        assert newest >= committed
        for step in steps(there):
            assert files_of(there.folder / f"checkpoints/{step}") == checkpoint_files(step)
        if newest:
            records = (there.folder / "metrics.jsonl").read_text().splitlines()
            assert records[:newest] == [f'{{"step": {step}}}' for step in range(1, newest + 1)]
        if requests % 4 == 0:  # the machine that was killed comes back with its folder, or another one goes on
            machine(f"sender{requests}" if requests % 8 else f"third{requests}")
            again = fetched(store, trained_by=here.id)
            mirror = Mirror(store, again, commits.read(store, store.list()))
            mirror.clean()
            next_run = fake_run(again)
            next_run.step(4)
            mirror.send(everything=True)
            kept = {path.removeprefix("b/runs/one/") for path in bucket.objects if "/checkpoints/" in path}
            assert kept == {f"checkpoints/4/{name}" for name in checkpoint_files(4)} | {commits.name("checkpoints/4")}
            survived += 1
        if done:
            break
        requests += 1
    assert requests > 25 and survived > 6


def test_a_checkpoint_that_the_run_removes_while_it_is_sent_is_sent_whole(
    store, bucket, machine, fake_run, files_of, checkpoint_files
):
    here = Stage(URL)
    run, mirror = fake_run(here), Mirror(store, here, {})
    run.step(1)
    later = iter((2, 3))
    bucket.after = lambda request, path: (
        run.step(next(later)) if path.endswith(("checkpoints/1/state/d/array", "2/_CHECKPOINT_METADATA")) else None
    )
    mirror.send()
    assert steps(here) == [2] and f"b/runs/one/{commits.name('checkpoints/1')}" in bucket.objects
    machine("b")
    assert files_of(fetched(store).folder / "checkpoints/1") == checkpoint_files(1)
    mirror.send()
    machine("c")
    assert steps(fetched(store)) == [2]


def test_readers_fetch_the_checkpoint_they_ask_for(store, machine, fake_run):
    here = Stage(URL)
    run = fake_run(here, keep=3)
    for step in (1, 2, 3):  # the score falls
        run.step(step)
    Mirror(store, here, {}).send(everything=True)
    for name, which, expected in (("b", "latest", [3]), ("c", "best", [1]), ("d", "2", [2]), ("e", None, [])):
        machine(name)
        assert steps(fetched(store, which)) == expected
    with pytest.raises(UsageError, match="no checkpoint '7'; there are latest, best and 1, 2, 3"):
        fetched(store, "7")


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(store, bucket, machine, fake_run, caplog):
    here = Stage(URL)
    run = fake_run(here, keep=2)
    run.step(1)
    run.step(2)
    Mirror(store, here, {}).send(everything=True)
    path = "b/runs/one/checkpoints/2/state/d/array"
    flipped = bytearray(bucket.objects[path][0])
    flipped[500] ^= 1
    bucket.objects[path] = bytes(flipped), 10**6
    machine("b")
    with caplog.at_level(logging.WARNING):
        assert steps(fetched(store, "latest")) == [1]
    assert "checkpoints/2 is damaged: state/d/array is not what was sent" in caplog.text
    machine("c")
    with pytest.raises(RunError, match="every checkpoint of bucket://b/runs/one that was asked for is damaged"):
        fetched(store, "2")


def test_a_stage_is_used_again_and_only_what_differs_is_fetched(store, bucket, machine, fake_run):
    here = Stage(URL)
    fake_run(here).step(1)
    Mirror(store, here, {}).send(everything=True)
    machine("b")
    there = fetched(store)
    read: list[str] = []
    bucket.before = lambda request, path: read.append(path) if request == "read" else None
    fetched(store)
    assert all("/.remote/" in path for path in read)
    (there.folder / "checkpoints/1/state/d/array").write_bytes(b"rotten")
    (there.folder / "metrics.jsonl").write_text("rotten")
    there.known["checkpoints/1"] = stage.total(there.manifest("checkpoints/1")), ""  # even if it is said to be right
    there.save()
    assert "rotten" not in (fetched(store).folder / "metrics.jsonl").read_text()
    assert (there.folder / "checkpoints/1/state/d/array").read_bytes() != b"rotten"


def test_the_newer_side_counts_and_what_was_never_sent_is_kept(store, machine, fake_run, files_of, caplog):
    a = Stage(URL)
    run_a = fake_run(a)
    run_a.step(1)
    Mirror(store, a, {}).send(everything=True)
    run_a.step(2)  # and the machine dies before this is sent
    assert steps(fetched(store, trained_by=a.id)) == [2], "trained last here: its own files are the newer ones"
    machine("b")
    b = fetched(store, trained_by=a.id)
    assert steps(b) == [1]
    run_b = fake_run(b)
    run_b.step(2)
    run_b.step(3)
    Mirror(store, b, commits.read(store, store.list())).send(everything=True)
    machine("a")
    with caplog.at_level(logging.WARNING):
        again = fetched(store, trained_by=b.id)
    assert files_of(again.folder) == files_of(b.folder) and steps(again) == [3]
    assert "checkpoints that were never sent there are kept in" in caplog.text
    (kept,) = again.home.glob("one.unsent-*")
    assert (kept / "checkpoints/2").is_dir()
    caplog.clear()
    assert steps(fetched(store, trained_by=b.id)) == [3] and not caplog.text


def test_a_run_that_was_removed_from_the_bucket_begins_anew(store, bucket, machine, fake_run):
    here = Stage(URL)
    fake_run(here).step(1)
    Mirror(store, here, {}).send(everything=True)
    bucket.objects.clear()
    assert not fetched(store).files() and not here.checkpoints()


def test_what_a_run_removes_is_removed_and_what_another_added_stays(store, bucket, machine, fake_run):
    here = Stage(URL)
    run, mirror = fake_run(here), Mirror(store, here, {})
    run.write("diverged.json", "{}")
    run.step(1)
    mirror.send(everything=True)
    store.write("see/top.png", b"picture")
    (here.folder / "diverged.json").unlink()
    mirror.send(everything=True)
    assert "b/runs/one/diverged.json" not in bucket.objects and "b/runs/one/see/top.png" in bucket.objects


def test_a_step_saved_again_with_other_numbers_replaces_the_old_one(store, bucket, machine, fake_run, files_of):
    here = Stage(URL)
    run = fake_run(here)
    run.step(1)
    Mirror(store, here, {}).send(everything=True)
    (here.folder / "checkpoints/1/state/d/array").write_bytes(b"other")
    (here.folder / "checkpoints/1").rename(here.folder / "checkpoints/x")
    (here.folder / "checkpoints/x").rename(here.folder / "checkpoints/1")
    Mirror(store, here, commits.read(store, store.list())).send(everything=True)
    machine("b")
    assert files_of(fetched(store).folder) == files_of(here.folder)


def test_a_lost_network_is_told_once_and_caught_up_with(store, bucket, machine, fake_run, monkeypatch, caplog):
    here = Stage(URL)
    run = fake_run(here)
    down = [True]

    def broken(request: str, path: str) -> None:
        if down[0]:
            raise ConnectionResetError("cable")

    bucket.before = broken
    with caplog.at_level(logging.INFO):
        sender = Sender(Mirror(store, here, {}), here, look_every=0.01)
        started = time.monotonic()
        for step in (1, 2, 3):
            run.step(step)  # training goes on
        assert time.monotonic() - started < 1
        time.sleep(0.5)
        down[0] = False
        sender.finish()
    assert caplog.text.count("cannot reach") == 1 and "training goes on" in caplog.text and "caught up" in caplog.text
    machine("b")
    assert steps(fetched(store)) == [3]


def test_a_network_that_stays_lost_fails_and_the_next_time_sends_the_rest(store, bucket, machine, fake_run, caplog):
    here = Stage(URL)
    run = fake_run(here)
    run.step(1)
    Mirror(store, here, {}).send(everything=True)

    def broken(request: str, path: str) -> None:
        raise ConnectionResetError("cable")

    bucket.before = broken
    run.step(2)
    sender = Sender(Mirror(store, here, {}), here, look_every=0.01)
    with pytest.raises(RunError) as told:
        sender.finish(wait=0.3)
    line = str(told.value)
    assert "\n" not in line and line.startswith(f"only in {here.folder}, not in {URL}: checkpoints/2, metrics.jsonl;")
    assert "the same command sends them (cannot reach" in line
    bucket.before = lambda request, path: None
    sender._thread.join()
    again = fetched(store, trained_by=here.id)
    Sender(Mirror(store, again, commits.read(store, store.list())), again).finish()
    machine("b")
    assert steps(fetched(store)) == [2]


def test_what_cannot_be_mended_by_waiting_is_not_waited_for(store, bucket, machine, fake_run):
    here = Stage(URL)
    fake_run(here).step(1)

    def deny(request: str, path: str) -> None:
        raise PermissionError("revoked")

    bucket.before = deny
    started = time.monotonic()
    with pytest.raises(RunError, match="permission denied by bucket://b"):
        Sender(Mirror(store, here, {}), here, look_every=0.01).finish()
    assert time.monotonic() - started < 5
