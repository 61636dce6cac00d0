# SPDX-License-Identifier: Apache-2.0
"""The description of a prepared set, looked at before tensorflow-datasets reads it: it imports what is named there."""

import pathlib
from collections.abc import Iterator
from typing import Any

from cnnjax.errors import RunError
from cnnjax.jsonfile import read_object

MAX_CLASSES = 2**20
"""Most classes that a set may say it has: their names are made up one by one."""

_LIBRARY = "tensorflow_datasets."
_CLASSES = ("pythonClassName", "python_class_name", "type")  # as Protocol Buffers spell it, either way, and as it was


def check_description(place: pathlib.Path) -> None:
    """Looks at every `features.json` of a prepared set, in all its versions.

    Raises:
      RunError: one cannot be read, names code that is not the library's (which would be imported), names a feature as
        no file can be called, or says an absurd number of classes.
    """
    for path in sorted([*place.glob("*/features.json"), *place.glob("*/*/features.json")]):
        for key, value in _entries(read_object(path)):
            if key in _CLASSES and isinstance(value, str) and not value.startswith(_LIBRARY):
                raise RunError(f"{path} wants {value[:80]} imported; only features of tensorflow-datasets are read")
            if key == "features" and isinstance(value, dict):
                for name in value:
                    if "/" in name or "\\" in name or "\0" in name:
                        raise RunError(f"{path} has a feature {name[:80]}, which is no name; prepare the set again")
            if key in ("numClasses", "num_classes") and not (str(value).isdecimal() and int(str(value)) <= MAX_CLASSES):
                raise RunError(f"{path} says {value!r:.80} classes; {MAX_CLASSES:,} are the most")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) of all objects, however deep; the reader has bounded how deep that is."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _entries(inner)
