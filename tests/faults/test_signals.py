# SPDX-License-Identifier: Apache-2.0
"""SIGTERM in every part of a run: it is saved, told, and goes on exactly.

The tests of this folder are of whole runs and what may befall them, so they mirror no module; docs/faults.md lists
them. `--slow` tries more.
"""

import os
import signal
from typing import Any

import pytest

from cnnjax import shared, training_run
from cnnjax.checkpoint import Checkpoints
from cnnjax.stopping import Stop, stopping_at_once
from cnnjax.training_run import Parts, train_run
from tests.faults import runs


def patched(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """Before the `call`-th call of a function the process sends itself SIGTERM."""
    original, calls = getattr(owner, name), []

    def signalling(*args: Any, **kwargs: Any) -> Any:
        calls.append(0)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, signalling)


@pytest.mark.parametrize(
    ("owner", "name", "call", "saved"),
    [
        (shared.RunLog, "write", 1, 2),
        (Parts, "evaluate", 1, 2),
        (Parts, "evaluate", 3, 6),
        (Checkpoints, "save", 2, 4),
        (Checkpoints, "wait", 1, 6),
        (training_run, "conclude", 1, 6),
    ],
    ids=["train", "evaluation", "last evaluation", "save", "last save", "test"],
)
def test_sigterm_is_saved_told_and_gone_on_from(tiny, tmp_path, monkeypatch, owner, name, call, saved):
    config = tiny("train.eval_every_steps=2", "train.log_every_steps=4", "augment.mirror=0.5", "train.ema_decay=0.9")
    train_run(config, str(tmp_path / "whole"), draws=False)
    workdir = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patched(patch, owner, name, call)
        with pytest.raises(Stop) as stop, stopping_at_once():
            train_run(config, str(workdir), draws=False)
    assert stop.value.exit_code == 143 and Checkpoints(workdir).latest() == saved
    assert stop.value.step in (saved, None) and "the same command goes on from" in stop.value.told()
    train_run(config, str(workdir), draws=False)
    runs.assert_same(tmp_path / "whole", workdir)
