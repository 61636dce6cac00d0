# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from cnnjax import trust
from cnnjax.config import load_config
from cnnjax.errors import UsageError


@pytest.fixture(autouse=True)
def _nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(trust, "_accepted", set())


def test_names_of_this_package_need_no_word():
    trust.check("lenet5")


def test_what_was_named_once_is_known_to_other_processes_and_from_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("net.py:net", "package.module:net"):
        with pytest.raises(UsageError, match=f"name it yourself with --config.model.name={name}"):
            trust.check(name)
        trust.accept(name)
    monkeypatch.setattr(trust, "_accepted", set())  # as in another process
    trust.check("net.py:net")
    trust.check("package.module:net")
    trust.check(f"{tmp_path}/net.py:net")
    for name in ("net.py:other", "folder/net.py:net", "package.module:other"):
        with pytest.raises(UsageError):
            trust.check(name)


def test_a_cache_that_cannot_be_written_holds_for_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "file"))
    trust.accept("net.py:net")
    trust.check("net.py:net")


def test_the_command_line_and_a_python_config_are_the_users_word(tmp_path: Path):
    load_config("experiments/default.py", ["--config.model.name=mine.py:net"])
    trust.check("mine.py:net")
    (tmp_path / "c.py").write_text(
        "from experiments import default\n"
        "def get_config():\n"
        "    c = default.get_config()\n"
        "    c.model.name = 'theirs.py:net'\n"
        "    return c\n"
    )
    load_config(str(tmp_path / "c.py"))
    trust.check("theirs.py:net")
