# SPDX-License-Identifier: Apache-2.0
"""One of several processes, forked from a server that has imported what it needs."""

import os
import sys
from pathlib import Path

import jax

from cnnjax import commands, pictures


def launch(arguments: tuple[str, ...], log: str) -> None:
    """As `run.py` with these arguments, on one device and without pictures; what it prints goes to the file `log`."""
    with Path(log).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_disable_most_optimizations", True)
    pictures.draw = lambda *_: None
    sys.exit(commands.main(list(arguments)))
