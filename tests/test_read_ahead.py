# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest
from jaxlib import xla_client

from cnnjax.read_ahead import Request, Start

OPTIONS = xla_client.CompileOptions()
DEVICES = jax.devices()[:1]


def note_of(folder: Path, *keys: str) -> Path:
    (folder / "note.json").write_text(json.dumps([(key, OPTIONS.SerializeAsString().hex(), [0]) for key in keys]))
    return folder / "note.json"


class Cache:
    """Stands for jax's: programs by key, and by which thread each was read."""

    def __init__(self, **programs: str) -> None:
        self.programs, self.read_by = programs, []

    def read(self, key, options, backend, devices):
        assert options.SerializeAsString() == OPTIONS.SerializeAsString() and list(devices) == DEVICES
        self.read_by.append((key, threading.current_thread().name))
        return self.programs.get(key), 1 if key in self.programs else None


def ask(start, key):
    return start.get(key, OPTIONS, None, DEVICES)


def join():
    for thread in threading.enumerate():
        if thread.name == "read-ahead":
            thread.join()


def test_what_the_last_start_asked_for_is_read_beforehand_and_handed_over_once(tmp_path):
    cache = Cache(init="a program", step="another")
    start = Start(note_of(tmp_path, "init", "step"), cache.read)
    join()
    assert cache.read_by == [("init", "read-ahead"), ("step", "read-ahead")]
    assert ask(start, "step") == ("another", 1) and len(cache.read_by) == 2
    assert ask(start, "step") == ("another", 1) and cache.read_by[2] == ("step", "MainThread")


def test_jax_waits_for_what_is_being_read_and_reads_itself_what_is_not(tmp_path):
    cache, begun, go = Cache(init="a program", step="another"), threading.Event(), threading.Event()

    def slowly(key, *args):
        if key == "init":
            begun.set()
            assert go.wait(10)
        return cache.read(key, *args)

    start = Start(note_of(tmp_path, "init", "step"), slowly)
    assert begun.wait(10)
    assert ask(start, "step") == ("another", 1) and cache.read_by == [("step", "MainThread")]
    threading.Timer(0.1, go.set).start()
    assert ask(start, "init") == ("a program", 1)
    join()
    assert cache.read_by[1:] == [("init", "read-ahead")]


def test_another_key_gets_its_own_program_and_the_note_follows(tmp_path):
    cache = Cache(step="of before", other="of now")
    note = note_of(tmp_path, "step")
    start = Start(note, cache.read)
    join()
    assert ask(start, "other") == ("of now", 1)
    assert ask(start, "new") == ask(start, "small") == (None, None)  # compiled then; one is kept
    start.end(lambda key: key == "new")
    assert json.loads(note.read_text()) == [[key, OPTIONS.SerializeAsString().hex(), [0]] for key in ("other", "new")]


def test_nothing_more_is_read_after_the_end(tmp_path):
    cache, begun, go = Cache(init="a program", step="another"), threading.Event(), threading.Event()

    def slowly(*args):
        begun.set()
        assert go.wait(10)
        return cache.read(*args)

    start = Start(note_of(tmp_path, "init", "step"), slowly)
    assert begun.wait(10)
    start.end(lambda key: True)
    go.set()
    join()
    assert [key for key, _ in cache.read_by] == ["init"]


@pytest.mark.parametrize("note", ["", "[", "7", '[["step", "no number", [0]]]', '[["step", "", [99]]]'])
def test_a_note_that_is_spoilt_does_no_harm(tmp_path, note):
    cache = Cache(step="a program")
    (tmp_path / "note.json").write_text(note)
    start = Start(tmp_path / "note.json", cache.read)
    join()
    assert ask(start, "step") == ("a program", 1) and cache.read_by == [("step", "MainThread")]
    start.end(lambda key: True)
    assert [Request(*row).key for row in json.loads((tmp_path / "note.json").read_text())] == ["step"]


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path):
    (tmp_path / "file").write_text("")
    start = Start(tmp_path / "file" / "note.json", Cache(step="a program").read)
    assert ask(start, "step") == ("a program", 1)
    start.end(lambda key: True)


# Starts in turn, in one process whose compiled functions are forgotten in between. Prints who read what, by start.
STARTS = """
import json, threading
import jax, jax.numpy as jnp
from jax._src import compilation_cache
from ml_collections import ConfigDict
from cnnjax import read_ahead
read, readers = compilation_cache.get_executable_and_time, []
def noticed(cache_key, compile_options, backend, executable_devices):
    found = read(cache_key, compile_options, backend, executable_devices)
    if found[0] is not None:
        readers.append(threading.current_thread().name)
    return found
compilation_cache.get_executable_and_time = noticed
def start(config, factor):
    jax.clear_caches()
    readers.clear()
    read_ahead.begin(ConfigDict(config))
    for thread in threading.enumerate():
        if thread.name == "read-ahead":
            thread.join()
    result = float(jax.jit(lambda x: jnp.sin(x) * factor)(2.0))
    read_ahead.end()
    assert compilation_cache.get_executable_and_time is noticed
    return [round(result, 4), *readers]
network = {"seed": 0, "model": {"depth": 20}}
told = [start(network, 2), start(network, 2), start(network | {"seed": 7}, 2), start(network, 3), start(network, 3)]
print(json.dumps([*told, start({"seed": 0}, 3)]))
"""


def run_starts(folder: Path, **environment: str) -> list:
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_NUM_CPU_DEVICES": "1",
    }
    command = [sys.executable, "-c", STARTS]
    ran = subprocess.run(command, check=False, env=os.environ | settings | environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_jaxs_own_cache_is_read_ahead_and_a_changed_program_is_compiled(tmp_path):
    twice, thrice = 1.8186, 2.7279
    assert run_starts(tmp_path) == [
        [twice],  # compiled
        [twice, "read-ahead"],
        [twice, "read-ahead"],  # another seed
        [thrice, "read-ahead"],  # in vain: the program is another, and compiled
        [thrice, "read-ahead"],
        [thrice, "MainThread"],  # another config, the same program
    ]
    assert len(list((tmp_path / "ahead").iterdir())) == 2
    assert run_starts(tmp_path, CNNJAX_READ_AHEAD="0")[0] == [twice, "MainThread"]
    assert run_starts(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")[0] == [twice]
