# SPDX-License-Identifier: Apache-2.0
"""`run.py verify` in earnest: with processes that are killed, on a model file of the user's own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnnjax.commands import main

SMALL = (
    "--config=experiments/default.py",
    "--config.data.source=synthetic",
    "--config.data.synthetic.num_examples=96",
    "--config.data.synthetic.image_shape=(8,8,1)",
    "--config.data.batch_size=16",
)
# Its parameters depend on the process: no two runs are alike.
MOODY = """
import os
import jax.numpy as jnp
from cnnjax.types import Model

def net(*, num_classes: int) -> Model:
    def init(key, image):
        return {"w": jnp.full((image[0].size, num_classes), 1e-4 * (os.getpid() % 1000))}, {}

    def apply(params, model_state, image, *, train, key=None):
        return {"logits": image.reshape(len(image), -1) @ params["w"]}, model_state

    return Model(init, apply)
"""


def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "run.py", "verify", *SMALL, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_a_small_network_is_proved():
    done = verify("--json", "--kills=2", "--devices=2")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["holds"] and told["backend"] == "cpu", done.stderr
    same, killed, many = told["guarantees"]
    assert same["difference"] == killed["difference"] == 0 and "kill -9 at 2 random moments" in killed["tried"]
    assert many["difference"] < 1e-5 and many["tried"].startswith("1 and 2 cpu devices")


@pytest.mark.slow
def test_a_network_that_is_not_the_same_twice_is_found_out(tmp_path: Path):
    (tmp_path / "moody.py").write_text(MOODY)
    done = verify(f"--config.model.name={tmp_path}/moody.py:net", "--kills=1", f"--workdir={tmp_path}/proof")
    assert done.returncode == 1 and "FAILS: the same seed twice: the same bits: params/w differs" in done.stdout
    assert (tmp_path / "proof" / "first" / "results.json").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--kills=0",), "--kills=0 is too few; give 1 or more"),
        (("--config.ensemble_size=2",), "verify proves a single run"),
        (("--workdir=tests",), "tests is not empty: take another --workdir"),
    ],
)
def test_what_cannot_be_proved_is_told(flags, told, capsys):
    assert main(["verify", *SMALL, *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")
