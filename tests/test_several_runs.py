# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from cnnjax.config import load_run_config
from cnnjax.errors import RunError
from cnnjax.page.record import find_runs
from cnnjax.workdir import members


def write(path, text: str = "{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_members_of_a_folder_are_those_it_lists_else_itself(tmp_path):
    names = [f"member{i}" for i in range(12)]
    write(tmp_path / "all/members.json", json.dumps({"kind": "ensemble", "members": names}))
    assert members(tmp_path / "all") == [tmp_path / "all" / name for name in names]  # not as sorted: 0, 1, 10, 11, 2
    assert members(tmp_path / "one") == [tmp_path / "one"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "ensemble", "members": [1]}', '{"members": ["a"]}'])
def test_a_damaged_list_of_members_is_one_line(tmp_path, text):
    write(tmp_path / "members.json", text)
    with pytest.raises(RunError, match=r"members\.json.*(anew|another --workdir)$"):
        members(tmp_path)


def test_a_folder_of_several_runs_is_no_run_and_names_one(tmp_path):
    write(tmp_path / "members.json", json.dumps({"kind": "sweep", "members": ["a", "b"]}))
    write(tmp_path / "results.json")
    for name in ("a", "b"):
        write(tmp_path / name / "config.json")
    assert find_runs(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(RunError, match=r"give one of them, as --workdir=.*/a$"):
        load_run_config(tmp_path)
