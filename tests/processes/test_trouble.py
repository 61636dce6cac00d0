# SPDX-License-Identifier: Apache-2.0
"""Two processes with data on the way, trained weights to start from, divided parameters; and one that fails."""

import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.runs import assert_same
from tests.processes.pair import TOLERANCE, alone, difference, finished, flags, two, wait_for_checkpoint

CROPS = ("data.image_size=(8,8)", "data.stream=true", "augment.crop_area=(0.2,1.0)", "data.batch_size=8")
LONG = (
    "train.num_steps=20000",
    "train.eval_every_steps=20000",
    "train.checkpoint_every_steps=100",
    "train.log_every_steps=100",
    "train.steps_per_dispatch=5",
)


def make_pictures(folder: Path) -> Path:
    """48 JPEGs of two kinds."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(24):
            image = random.integers(0, 256, (24, 30, 3)).astype(np.uint8)
            Image.fromarray(image).save(folder / name / f"{i}.jpg")
    return folder


@pytest.mark.slow
def test_two_processes_stream_what_one_does(tmp_path):
    """From a folder, and from a pack of it; every process decodes its half of a batch."""
    folder, pack = make_pictures(tmp_path / "set"), tmp_path / "pack"
    alone(tmp_path, "prepare", f"--source=folder:{folder}", f"--out={pack}")
    for source in (f"folder:{folder}", f"pack:{pack}"):
        name = source.partition(":")[0]
        own = (f"data.source={source}", *CROPS, "data.workers=1" if name == "pack" else "data.workers=0")
        together = finished(tmp_path / f"two-{name}", *own)
        alone(tmp_path, *flags(tmp_path / f"one-{name}", *own), devices=2)
        assert difference(tmp_path / f"one-{name}", together) < TOLERANCE


@pytest.mark.slow
def test_two_processes_start_from_trained_weights(tmp_path):
    alone(tmp_path, *flags(tmp_path / "trained"))
    own = (f"init_from={tmp_path / 'trained'}", "freeze=('hidden1*',)", "seed=3")
    together = finished(tmp_path / "two", *own)
    alone(tmp_path, *flags(tmp_path / "one", *own), devices=2)
    assert difference(tmp_path / "one", together) < TOLERANCE
    alone(tmp_path, *flags(tmp_path / "scratch", "seed=3"), devices=2)
    assert difference(tmp_path / "scratch", together) > 100 * TOLERANCE  # so they did start from the weights


@pytest.mark.slow
def test_divided_parameters_survive_the_loss_of_a_process(tmp_path):
    own = (*LONG, "train.num_steps=400", "train.eval_every_steps=400", "train.shard_params=1", "optimizer.name=adam")
    whole, broken = finished(tmp_path / "whole", *own), tmp_path / "broken"
    with two(broken, *own) as (first, second):
        wait_for_checkpoint(broken, 100, [first, second])
        second.popen.kill()
        assert first.code(60) == 1 and "error: process 1 (" in first.told()
    assert_same(whole, finished(broken, *own))


@pytest.mark.slow
def test_an_error_of_one_process_ends_both_and_is_told(tmp_path):
    """Process 1 finds a damaged picture, of a set that is whole where process 0 reads it."""
    hosts = (tmp_path / "host0", tmp_path / "host1")
    make_pictures(hosts[0] / "set")
    shutil.copytree(hosts[0], hosts[1])
    own = ("data.source=folder:set", *CROPS, "data.validation_fraction=0.1", "data.test_fraction=0.1")
    with two(tmp_path / "run", *own, *LONG, cwds=hosts) as processes:
        wait_for_checkpoint(tmp_path / "run", 100, processes)
        for picture in (hosts[1] / "set").rglob("*.jpg"):
            picture.write_bytes(picture.read_bytes()[:100])
        assert [process.code(60) for process in processes] == [1, 1], [process.told() for process in processes]
        for process in processes:
            assert "process 1 (" in process.told() or process is processes[1], process.told()
            assert ".jpg" in process.told() and "Traceback" not in process.told(), process.told()


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_process_is_lost_within_a_minute(tmp_path, frozen):
    with two(tmp_path / "run", *LONG) as processes:
        wait_for_checkpoint(tmp_path / "run", 100, processes)
        processes[frozen].popen.send_signal(signal.SIGSTOP)
        begun, other = time.monotonic(), processes[1 - frozen]
        assert other.code(120) == 1
        assert time.monotonic() - begun < 60
        assert f"error: process {frozen} (" in other.told() and "no sign of life for 45 s" in other.told()
        processes[frozen].popen.send_signal(signal.SIGCONT)
        assert processes[frozen].code(60) == 1, processes[frozen].told()


@pytest.mark.slow
def test_a_signal_after_the_last_step_comes_too_late(tmp_path):
    short = (*LONG, "train.num_steps=300", "train.eval_every_steps=300")
    with two(tmp_path / "run", *short) as processes:
        wait_for_checkpoint(tmp_path / "run", 300, processes)
        for process in processes:
            process.popen.terminate()
        assert [process.code() for process in processes] == [0, 0], [process.told() for process in processes]
    assert (tmp_path / "run" / "results.json").is_file()
