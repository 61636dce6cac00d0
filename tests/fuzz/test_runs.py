# SPDX-License-Identifier: Apache-2.0
"""The folder of a run that came from a stranger: what it says, or a reason; it is read, never run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from cnnjax.commands.runs import _plain, _table
from cnnjax.config import load_config, load_run_config
from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import build_model
from cnnjax.page.record import differing, read_run
from cnnjax.report.log import RunLog, read_metrics
from cnnjax.workdir import read_members
from tests.fuzz.tools import anything, bounded, fuzz, hostile_json

ENVIRONMENT = {"start_time": "2026-01-01T00:00:00+00:00", "host": "here", "pid": 1, "command": "run.py", "git": None}
DATASET = {"name": "d", "label_names": ["a", "b"], "image_shape": [8, 8, 1], "num_examples": {"train": 9, "test": 3}}
RESULTS = {
    "step": 2,
    "last": {"test": {"loss": 0.5, "accuracy": 0.75}, "validation": {"loss": "NaN", "accuracy": 0.5}},
    "best": {"step": 1, "test": {"loss": 0.4, "accuracy": 1.0}},
}
RECORDS = [
    {"step": 1, "split": "train", "loss": 0.75, "images_per_second": 100.0},
    {"step": 2, "split": "validation", "loss": "NaN", "accuracy": 0.5},
]
CONFIG = json.loads(load_config("experiments/default.py").to_json())
MEMBERS = {"kind": "ensemble", "members": ["member0", "member1"], "config": {"seed": 0}}
LOG = "".join(f"{json.dumps(record)}\n" for record in RECORDS).encode()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended, as far as its record goes."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with RunLog(path) as log:
        log.write(1, "train", {"loss": 0.75})
    restore(path)
    assert read_run(path).result is not None
    return path


def restore(path: Path) -> None:
    documents = {"config": CONFIG, "environment": ENVIRONMENT, "dataset": DATASET, "results": RESULTS}
    for name, document in documents.items():
        (path / f"{name}.json").write_text(json.dumps(document))
    (path / "metrics.jsonl").write_bytes(LOG)


def listed(path: Path) -> None:
    """What `run.py runs` does with a run."""
    record = read_run(path)
    keys = differing([record.config, record.config])
    _table([record], [], keys)
    json.dumps(_plain(record, keys), ensure_ascii=False)


@pytest.mark.parametrize(
    ("name", "document"),
    [("config", CONFIG), ("environment", ENVIRONMENT), ("dataset", DATASET), ("results", RESULTS)],
)
def test_the_files_of_a_run(workdir: Path, name: str, document: Any):
    file = workdir / f"{name}.json"

    @fuzz(content=hostile_json(document))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        with bounded():
            listed(workdir)
        if name == "config":
            with bounded():
                config = load_config(str(file), ["--config.seed=3"])
                assert config.seed == 3 and isinstance(config.data.batch_size, int)
                build_model(config, 10)

    check()
    restore(workdir)
    listed(workdir)


@st.composite
def logs(draw: Any) -> bytes:
    lines = LOG.splitlines(keepends=True)
    lines[draw(st.integers(0, 1))] = draw(hostile_json(RECORDS[0])) + draw(st.sampled_from((b"\n", b"")))
    return b"".join(lines)


@fuzz(2, content=st.one_of(logs(), anything(LOG)))
def test_the_log(workdir: Path, content: bytes):
    (workdir / "metrics.jsonl").write_bytes(content)
    with bounded():
        records = read_metrics(workdir)
        assert all(isinstance(record["step"], int) for record in records)
        listed(workdir)
    with bounded():  # a run that goes on drops what comes after its checkpoint
        place = workdir.with_name("resumed")
        place.mkdir(exist_ok=True)
        (place / "metrics.jsonl").write_bytes(content)
        RunLog(place, resume_step=1).close()
        assert all(record["step"] <= 1 for record in read_metrics(place))
    restore(workdir)


@fuzz(cut=st.integers(0, len(LOG)))
def test_a_log_cut_anywhere_loses_the_last_record_at_most(workdir: Path, cut: int):
    (workdir / "metrics.jsonl").write_bytes(LOG[:cut])
    whole = LOG[:cut].count(b"\n")
    assert len(read_metrics(workdir)) in (whole, whole + 1)


@fuzz(content=hostile_json(MEMBERS))
def test_the_list_of_an_ensemble(workdir: Path, content: bytes):
    place = workdir.with_name("ensemble")
    place.mkdir(exist_ok=True)
    (place / "members.json").write_bytes(content)
    with bounded():
        for name in read_members(place)["members"]:
            assert (place / name).resolve().parent == place.resolve()


@fuzz(share=0.5, data=st.data())
def test_event_files(workdir: Path, data: st.DataObject):
    path = workdir.with_name("events")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(workdir, path)
    restore(path)
    (file,) = (path / "tensorboard").iterdir()
    content, name = (
        data.draw(anything(file.read_bytes())),
        data.draw(st.sampled_from((file.name, "events.out.tfevents.²"))),
    )
    file.unlink()
    (path / "tensorboard" / name).write_bytes(content)
    with bounded():
        listed(path)


@pytest.mark.parametrize("name", ["os:system", "evil.py:net"])
def test_a_network_that_a_strangers_config_names_is_not_run(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    harm = tmp_path / "harm"
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(harm)!r})\ndef net(*, command): pass\n")
    monkeypatch.chdir(tmp_path)
    document = {**CONFIG, "model": {"name": name, "command": f"mkdir {harm}"}}
    (workdir / "config.json").write_text(json.dumps(document))
    wanted = rf"network is code, '{name}', which would be run: .*--config\.model\.name={name}"
    with pytest.raises(UsageError, match=wanted):
        load_config(str(workdir / "config.json"))
    config = load_run_config(workdir)  # which may be listed and compared
    with pytest.raises(UsageError, match=wanted):
        build_model(config, 10)
    assert not harm.exists()
    # Whoever names it has it run: the file does harm, so the test tests something.
    config = load_run_config(workdir, [f"--config.model.name={name}"])
    with pytest.raises((UsageError, RunError)):
        build_model(config, 10)
    assert harm.exists()
    restore(workdir)
