# SPDX-License-Identifier: Apache-2.0
"""A run in a process of its own, which can be killed between two checkpoints or within one."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cnnjax.checkpoint import FOLDER
from cnnjax.errors import RunError

_POLL_SECONDS = 0.0005


class Session:
    """A process that trains a config in a workdir as `child` does; what it prints goes to WORKDIR.log."""

    def __init__(self, config_file: Path, workdir: Path, steps: int, every: int, variables: Mapping[str, str]):
        self.workdir = workdir
        self._log = workdir.with_name(f"{workdir.name}.log")
        command = [sys.executable, "-m", "cnnjax.verify.child", *map(str, (config_file, workdir, steps, every))]
        root = str(Path(__file__).parents[2])  # cnnjax is found from any current folder, where a model file may lie
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path, **variables}
            )

    def finish(self) -> None:
        """Waits for its end.

        Raises:
          RunError: it failed; the message is its own.
        """
        with self._ended_with_us():
            code = self._process.wait()
        if code:
            lines = self._log.read_text(errors="replace").strip().splitlines() or ["nothing was printed"]
            raise RunError(
                f"a run of the proof failed ({code}): {lines[-1].removeprefix('error: ')} (all: {self._log})"
            )

    def kill_at(self, step: int, *, within: bool, delay: float) -> bool:
        """Kills it (SIGKILL) `delay` seconds after it began (`within`) or ended to write the checkpoint of `step`.

        Returns:
          Whether it was killed; False: it came to its end before.
        """
        with self._ended_with_us():
            while self._process.poll() is None:
                writing, saved = checkpoints(self.workdir)
                if step in saved or (within and step in writing):
                    time.sleep(delay)
                    self._process.kill()
                    return self._process.wait() < 0
                time.sleep(_POLL_SECONDS)
        self.finish()  # raises what it failed of
        return False

    @contextlib.contextmanager
    def _ended_with_us(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise


def checkpoints(workdir: Path) -> tuple[set[int], set[int]]:
    """(steps half written, steps saved) in a workdir, as the names of its folders tell."""
    writing, saved = set(), set()
    with contextlib.suppress(FileNotFoundError), os.scandir(workdir / FOLDER) as entries:
        for entry in entries:
            step, dot, _ = entry.name.partition(".")
            if step.isdigit():
                (writing if dot else saved).add(int(step))
    return writing, saved
