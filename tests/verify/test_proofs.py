# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from cnnjax.report.log import read_metrics
from cnnjax.verify import child, proofs
from cnnjax.verify.proofs import Finding, Prover, only_one
from cnnjax.verify.report import document, format_findings
from cnnjax.verify.session import checkpoints


class Here:
    """As a Session, but the run takes place in this process, and who is to be killed never begins."""

    spoil: tuple[str, ...] = ()  # workdirs whose runs take another seed
    is_killed = True

    def __init__(self, file: Path, workdir: Path, steps: int, every: int, variables: dict[str, str]):
        if workdir.name in self.spoil:
            config = json.loads(file.read_text())
            file = workdir.with_name("spoilt.json")
            file.write_text(json.dumps({**config, "seed": 1}))
        self._arguments = [str(file), str(workdir), str(steps), str(every)]

    def finish(self) -> None:
        assert child.main(self._arguments) == 0

    def kill_at(self, step: int, **_: object) -> bool:
        return self.is_killed


@pytest.fixture
def prover(tiny, tmp_path, monkeypatch) -> Prover:
    monkeypatch.setattr(proofs, "Session", Here)
    return Prover(tiny("train.num_steps=100", "train.log_every_steps=50"), tmp_path, steps=4, every=2)


def test_guarantees_that_hold(prover, tmp_path):
    found = [prover.same_seed(), prover.killed(2), prover.one_device_and_many(2)]
    assert [finding.holds for finding in found] == [True] * 3 and found[0].difference == 0
    steps = [(record["step"], record["split"]) for record in read_metrics(tmp_path / "first")]
    assert steps == [(2, "train"), (2, "validation"), (4, "train"), (4, "validation"), (4, "test")]
    assert checkpoints(tmp_path / "first") == (set(), {2, 4})
    text = format_findings("cpu", found)
    assert text.count("holds") == 3 and "On this cpu the run is exact" in text and "within 0.01" in text


@pytest.mark.parametrize("spoilt", [("second", "killed"), ("one_device",)], ids=["bits", "numbers"])
def test_guarantees_that_do_not(prover, monkeypatch, spoilt):
    monkeypatch.setattr(Here, "spoil", spoilt)
    found = [prover.same_seed(), prover.killed(1), prover.one_device_and_many(2)]
    assert [finding.holds for finding in found] == [name not in spoilt for name in ("second", "killed", "one_device")]
    text = format_findings("gpu", found)
    assert "FAILS" in text and ("config.train.deterministic=True" in text) == ("one_device" not in spoilt)
    assert document("gpu", found)["holds"] is False


def test_a_run_that_nothing_killed_proves_nothing(prover, monkeypatch):
    monkeypatch.setattr(Here, "is_killed", False)
    found = prover.killed(2)
    assert found.holds is None and "not tried" in format_findings("cpu", [found] * 3)


def test_a_guarantee_that_cannot_be_tried_is_not_claimed():
    bits = [Finding("same", "2 runs", True, 0.0, 1.0)] * 2
    text = format_findings("tpu", [*bits, Finding("many", "not tried: there is one tpu here", None, None, 0.0)])
    assert "not tried" in text and "one device and many" not in text


def test_one_device_is_one_of_those_that_the_user_allows(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert only_one("gpu")["CUDA_VISIBLE_DEVICES"] == "3" and only_one("cpu") == {"JAX_NUM_CPU_DEVICES": "1"}
