# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from tests.faults.runs import finished


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing befell, to compare others with."""
    return finished(tmp_path_factory.mktemp("faults") / "whole")
