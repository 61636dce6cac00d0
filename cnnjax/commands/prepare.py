# SPDX-License-Identifier: Apache-2.0
"""Download and prepare a set of TensorFlow Datasets, once.

  run.py prepare tfds:NAME[/CONFIG][:VERSION] [--data_dir=DIR]

Training then reads it by config.data.source=tfds:NAME, without TensorFlow. Preparing some sets needs TensorFlow:
'uv sync --extra prepare' installs it; it is loaded in a process of its own, which ends when the set is there.
The folder of the prepared set is printed.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.add_argument("source", metavar="tfds:NAME", help="the set, as in config.data.source")
    parser.add_argument(
        "--data_dir", metavar="DIR", help="where prepared sets lie; default: $TFDS_DATA_DIR, else ~/tensorflow_datasets"
    )


def run(args: argparse.Namespace) -> int:
    """Prepares a set in a process of its own; returns that process's exit code."""
    import os
    import pathlib
    import subprocess
    import sys

    import cnnjax
    from cnnjax.errors import UsageError, unknown

    prefix, _, name = args.source.partition(":")
    if prefix != "tfds":
        raise UsageError(f"{unknown('source to prepare', prefix, ['tfds'])}; write tfds:NAME, as in tfds:cifar10")
    command = [sys.executable, "-m", "cnnjax.data.prepare"]
    command += [f"--data_dir={args.data_dir}"] if args.data_dir else []
    command += ["--debug"] if args.debug else []
    root = str(pathlib.Path(cnnjax.__file__).parents[1])  # the process may be started from any folder
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return subprocess.run([*command, "--", name], env={**os.environ, "PYTHONPATH": path}, check=False).returncode
