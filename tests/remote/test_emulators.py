# SPDX-License-Identifier: Apache-2.0
"""The same on what speaks the protocols of the two stores, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.errors import RunError
from cnnjax.remote import commits
from cnnjax.remote.fetching import fetch
from cnnjax.remote.lease import Lease, last_stage
from cnnjax.remote.sending import Mirror
from cnnjax.remote.stage import Stage
from cnnjax.remote.store import Store

ROOT = Path(__file__).parents[2]
# Without the last one gcsfs asks first which kind of bucket it is, of a service that is not emulated.
GOOGLE = {"GOOGLE_CLOUD_PROJECT": "test", "NO_GCE_CHECK": "true", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
AMAZON = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module", params=["gs", "s3"])
def emulator(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str]]]:
    """(scheme, environment) of a store with the empty bucket `bkt`."""
    if request.param == "gs":
        server_module = pytest.importorskip("gcp_storage_emulator.server")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = server_module.create_server("127.0.0.1", port, in_memory=True, default_bucket="bkt")
        server.start()
        yield "gs", {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", **GOOGLE}
    else:
        server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
        import boto3

        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="bkt")
        yield "s3", {"AWS_ENDPOINT_URL": url, **AMAZON}
    server.stop()


@pytest.fixture
def scheme(emulator: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in emulator[1].items():
        monkeypatch.setenv(name, value)
    return emulator[0]


def test_a_run_goes_there_and_comes_back(scheme, machine, fake_run, files_of):
    url = f"{scheme}://bkt/runs/one"
    here, store = Stage(url), Store(url, patience=1)
    lease = Lease(store, here.id)
    with pytest.raises(RunError, match="in use by process"):
        Lease(store, "other")
    run, mirror = fake_run(here), Mirror(store, here, {}, lease)
    run.write("see/ä b.txt", "")
    for step in (1, 2):
        run.step(step)
        mirror.send(everything=True)
    lease.release()
    assert last_stage(store) == here.id
    machine("b")
    there = Stage(url)
    fetch(store, there, commits.ALL, last_stage(store))
    assert files_of(there.folder) == files_of(here.folder) and there.checkpoints() == ["checkpoints/2"]
    fetch(store, there, commits.ALL, last_stage(store))
    assert store.read("not/there") is None and store.version("not/there") == ""
    store.delete("not/there")


def test_a_bucket_that_is_not_there_is_told(scheme, machine):
    with pytest.raises(RunError, match=f"there is no bucket {scheme}://other: correct --workdir, or make it"):
        Lease(Store(f"{scheme}://other/run", patience=1), "a")


CONFIG = (
    "--config=experiments/lenet5_digits.py",
    "--config.train.num_steps=60",
    "--config.train.checkpoint_every_steps=5",
    "--config.train.ema_decay=0.9",
)


def command(workdir: str | Path) -> list[str]:
    return [sys.executable, "run.py", *CONFIG, f"--workdir={workdir}"]


def arrays(checkpoint: Path) -> dict[str, np.ndarray]:
    from orbax.checkpoint import v1 as ocp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shardings are not given; one process reads all here
        tree = ocp.load(str(checkpoint), checkpointable_name="state")
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.slow
def test_killed_runs_go_on_elsewhere_and_end_as_one_that_was_not(scheme, emulator, tmp_path: Path):
    """`kill -9` on one machine after another, each with an empty cache; the arrays are those of a local run."""
    url = f"{scheme}://bkt/runs/killed"

    # What is compiled once is no business of this test.
    common = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}

    def environment(machine: str) -> dict[str, str]:
        return {**os.environ, **emulator[1], "CNNJAX_CACHE_DIR": str(tmp_path / machine), **common}

    subprocess.run(command(tmp_path / "whole"), cwd=ROOT, env=environment("whole"), check=True, capture_output=True)
    store = Store(url, patience=5)
    reached: list[int] = []
    for number in range(2):
        process = subprocess.Popen(
            command(url), cwd=ROOT, env=environment(f"m{number}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        target = max(reached, default=0) + 10
        while process.poll() is None and max(reached := [*reached, newest(store)]) < target:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 20 <= max(reached) < 60, "the kills fall into training"
    told = subprocess.run(command(url), cwd=ROOT, env=environment("last"), check=True, capture_output=True, text=True)
    assert f"going on from step {max(reached)} of 60" in told.stderr
    assert f"all of it is in {url}" in told.stderr
    evaluate = [sys.executable, "run.py", "evaluate", f"--workdir={url}", "--json"]
    read = subprocess.run(evaluate, cwd=ROOT, env=environment("reader"), check=True, capture_output=True, text=True)
    whole = json.loads((tmp_path / "whole/results.json").read_text())["last"]["test"]
    assert json.loads(read.stdout)["accuracy"] == whole["accuracy"]
    (stage,) = (tmp_path / "reader/remote").glob("*/killed")
    expected, found = arrays(tmp_path / "whole/checkpoints/60"), arrays(stage / "checkpoints/60")
    assert expected.keys() == found.keys() and len(found) > 20
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)


def newest(store: Store) -> int:
    return max((int(path.rpartition("/")[2]) for path in commits.read(store, store.list())), default=0)
