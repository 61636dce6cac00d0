# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path, PurePosixPath

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import RunError
from cnnjax.report import environment as module
from cnnjax.report.environment import environment, git_state, to_plain, write_atomic, write_json


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *names, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "-q")
    (root / "file").write_text("one")
    git(root, "add", "file")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_environment_tells_versions_devices_and_command(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "orig_argv", ["run.py", "--workdir=my run"])
    found = environment(tmp_path)
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert found["devices"] == [
        {"kind": "cpu", "platform": "cpu", "count": 2, "memory_bytes": None, "runtime": found["devices"][0]["runtime"]}
    ]
    assert found["num_processes"] == 1
    assert found["cpu"]["count"] >= found["cpu"]["usable"] >= 1 and found["cpu"]["model"]
    assert found["git"] is None
    assert found["command"] == "run.py '--workdir=my run'"
    start = datetime.fromisoformat(found["start_time"])
    assert start.tzinfo is not None and abs((datetime.now(start.tzinfo) - start).total_seconds()) < 60
    assert json.loads(json.dumps(found)) == found


def test_variables_that_steer_jax_are_kept_and_secrets_are_not(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    monkeypatch.setenv("JAX_TEST_TOKEN", "hidden")
    monkeypatch.setenv("UNRELATED", "hidden")
    variables = environment(tmp_path)["variables"]
    assert variables["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false"
    assert variables["JAX_PLATFORMS"] == "cpu"
    assert "hidden" not in variables.values()
    assert list(variables) == sorted(variables)


def test_a_package_that_is_not_there_has_no_version(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PACKAGES", ("numpy", "no-such-package"))
    assert environment(tmp_path)["versions"] == {"numpy": np.__version__, "no-such-package": None}


def test_git_commit_and_dirty(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state(checkout) == {"commit": commit, "dirty": False}
    (checkout / "file").write_text("two")
    assert git_state(checkout) == {"commit": commit, "dirty": True}
    git(checkout, "checkout", "-q", "file")
    (checkout / "new").write_text("a model of one's own")
    assert git_state(checkout) == {"commit": commit, "dirty": True}


def test_the_commit_is_found_from_inside_a_git_hook(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert git_state(checkout) is not None


def test_no_commit_outside_a_checkout_before_the_first_one_and_without_git(checkout, monkeypatch, tmp_path):
    inside = checkout / "site-packages"
    inside.mkdir()
    assert git_state(inside) is None
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert git_state(empty) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(checkout) is None


def test_to_plain():
    value = {
        "array": np.array([[1, 2]], np.int32),
        "jax": jnp.float32(0.5),
        "double": np.float64("nan"),
        "tuple": (1, True, None),
        3: [float("inf"), -float("inf")],
        "path": PurePosixPath("a/b"),
    }
    assert to_plain(value) == {
        "array": [[1, 2]],
        "jax": 0.5,
        "double": "NaN",
        "tuple": [1, True, None],
        "3": ["Infinity", "-Infinity"],
        "path": "a/b",
    }
    with pytest.raises(TypeError, match="no form in JSON"):
        to_plain({"function": print})


def test_write_json_is_readable_strict_and_keeps_the_order(tmp_path):
    path = tmp_path / "new" / "folder" / "results.json"
    write_json(path, {"b": 1, "a": [float("nan")], "label": "猫", "argument": "\udcff"})
    text = path.read_text(encoding="utf-8")
    assert text == '{\n  "b": 1,\n  "a": [\n    "NaN"\n  ],\n  "label": "猫",\n  "argument": "\\udcff"\n}\n'
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_json(path, {"a": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*config\.json: No space left on device; make room"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError) as error:
        write_atomic(tmp_path / "file" / "config.json", b"")
    assert "\n" not in str(error.value) and "file/config.json" in str(error.value)
