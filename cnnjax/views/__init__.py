# SPDX-License-Identifier: Apache-2.0
"""The views of `run.py see`, a module each; a new file here is a new view.

A view module has a docstring whose first line is its help, and `draw(subject, choice, folder) -> View`, which writes
PNG files into `folder`. `DEFAULT = True` makes it one of those drawn when none is named: it takes seconds. Its
computation lies in `cnnjax.see`, usable without it.
"""

import importlib
import pkgutil
from types import ModuleType

from cnnjax.errors import UsageError, unknown

_NOT_VIEWS = ("drawing", "subject")


def names() -> list[str]:
    """The views there are, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NOT_VIEWS)


def get_view(name: str) -> ModuleType:
    """The module of a view.

    Raises:
      UsageError: there is none of that name.
    """
    if name not in names():
        raise UsageError(unknown("view", name, names()))
    return importlib.import_module(f"{__name__}.{name}")
