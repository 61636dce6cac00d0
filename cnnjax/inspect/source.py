# SPDX-License-Identifier: Apache-2.0
"""Where in the user's own code something happened."""

import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

from cnnjax.inspect.steps import Step

_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_HERE = str(Path(__file__).parent.parent)
# These stand between the user's call and the user's function: never the place to look at.
_BETWEEN = tuple(f"{_HERE}/{name}" for name in ("inspect/", "models/check.py", "models/adapter.py"))


def describe_error(error: BaseException) -> str:
    """One line: the error's type, the first line of its message, and where in the user's code it arose."""
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    place = _place(reversed(frames))
    return type(error).__name__ + (f": {message}" if message else "") + (f" ({place})" if place else "")


def line_of(step: Step) -> str:
    """The user's line that made a step, as "net.py:12"; nothing when it is not known."""
    # What is known of an equation ends at the call that it was traced for, so the calls are looked through, too.
    for eqn in reversed(step.eqns):
        found = eqn.source_info.traceback
        if found and (place := _place((frame.file_name, frame.line_num) for frame in found.frames)):
            return place
    return ""


def _place(frames: Iterable[tuple[str, int]]) -> str:
    """The first of `frames` (innermost first) that is in no library, relative to the working folder if inside."""
    for file, line in frames:
        if not file.startswith((*_LIBRARIES, *_BETWEEN, "<frozen", "<string")):
            path = Path(file)
            return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"
    return ""
