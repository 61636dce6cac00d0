# SPDX-License-Identifier: Apache-2.0
"""Measuring in a fresh process: what is started once in a process, such as Python and the backend, starts anew."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from cnnjax.errors import RunError


def run_fresh(program: str, told: Mapping[str, Any], *, environment: Mapping[str, str], what: str) -> Any:
    """Runs Python code in a process of its own, and returns the JSON value of the last line that it prints.

    Args:
      program: the code; it finds `told` on its standard input (`told_to_child`).
      told: a JSON object.
      environment: variables beside, or in place of, those of this process.
      what: "the cold start": how a message calls it.

    Raises:
      RunError: the process failed, or printed nothing; the last line of its complaints is told.
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(told),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RunError(f"{what} failed: {last}")
    return json.loads(lines[-1])


def told_to_child() -> dict[str, Any]:
    """What `run_fresh` was given as `told`; the child calls it."""
    return json.loads(sys.stdin.read())
