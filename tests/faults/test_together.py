# SPDX-License-Identifier: Apache-2.0
"""Two runs started on one folder."""

from pathlib import Path

from tests.faults.runs import Run, assert_same


def test_of_two_runs_started_on_one_folder_the_second_refuses_and_the_first_is_none_the_worse(
    tmp_path: Path, whole: Path
):
    runs = [Run(tmp_path / "shared") for _ in range(2)]
    codes = sorted(str(run.code()) for run in runs)
    refused = "".join(run.told() for run in runs if run.code() == 1)
    assert codes == ["0", "1"] and "another process is training in" in refused, [run.told() for run in runs]
    assert_same(whole, tmp_path / "shared")
