# SPDX-License-Identifier: Apache-2.0
"""Prepare a data set once: download one of TensorFlow Datasets, or pack and check a folder of pictures.

  run.py prepare tfds:NAME[/CONFIG][:VERSION] [--data_dir=DIR]
  run.py prepare --source=folder:PATH --out=DIR

Training then reads the first by config.data.source=tfds:NAME, without TensorFlow. Preparing some sets needs TensorFlow:
'uv sync --extra prepare' installs it; it is loaded in a process of its own, which ends when the set is there.

The second writes a few large files that training reads by config.data.source=pack:DIR, on slow and remote disks many
times as fast as single files. Every picture is decoded once; what cannot be read, copies of pictures (within and
across splits) and how many there are of each class is told. --source=tar:DIR packs tar files.

The folder of the prepared set is printed.
"""

import argparse

PACKED = ("folder", "tar")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.add_argument("set", metavar="tfds:NAME", nargs="?", help="the set, as in config.data.source")
    parser.add_argument("--source", metavar="SOURCE", help="the same; folder:PATH or tar:DIR with --out")
    parser.add_argument(
        "--data_dir", metavar="DIR", help="where prepared sets lie; default: $TFDS_DATA_DIR, else ~/tensorflow_datasets"
    )
    parser.add_argument("--out", metavar="DIR", help="folder:, tar: the folder of the pack, empty or not there yet")
    parser.add_argument(
        "--on_bad_image", choices=("error", "skip"), default="error", help="folder:, tar: unreadable pictures"
    )
    parser.add_argument(
        "--duplicates", choices=("keep", "drop"), default="keep", help="folder:, tar: copies, byte for byte"
    )


def run(args: argparse.Namespace) -> int:
    """Downloads or packs; returns the exit code."""
    from cnnjax.errors import UsageError, unknown

    if bool(args.set) == bool(args.source):
        raise UsageError("name one set: 'run.py prepare tfds:NAME', or --source=folder:PATH --out=DIR")
    source = args.set or args.source
    prefix, _, name = source.partition(":")
    if prefix in PACKED:
        return _pack(args, source)
    if prefix != "tfds":
        known = f"{unknown('source to prepare', prefix, ['tfds', *PACKED])}; write tfds:NAME, as in tfds:cifar10"
        raise UsageError(known)
    if args.out:
        raise UsageError("--out is where folder:PATH and tar:DIR are packed to; tfds:NAME takes --data_dir")
    return _download(args, name)


def _pack(args: argparse.Namespace, name: str) -> int:
    from pathlib import Path
    from types import SimpleNamespace

    from cnnjax.data import load_source
    from cnnjax.data.checks import told
    from cnnjax.data.packing import pack
    from cnnjax.errors import UsageError

    if not args.out:
        raise UsageError(f"{name} is packed into a folder: add --out=DIR")
    out = Path(args.out).expanduser().absolute()
    source = load_source(SimpleNamespace(source=name, train_split="train", test_split="test"))
    checks = pack(source, out, skip=args.on_bad_image == "skip", drop_copies=args.duplicates == "drop")
    print(f"{out} holds this set already" if checks is None else told(checks, source.label_names, out))
    print(f"train with --config.data.source=pack:{out}")
    return 0


def _download(args: argparse.Namespace, name: str) -> int:
    """Prepares a set in a process of its own; returns that process's exit code."""
    import os
    import pathlib
    import subprocess
    import sys

    import cnnjax

    command = [sys.executable, "-m", "cnnjax.data.prepare"]
    command += [f"--data_dir={args.data_dir}"] if args.data_dir else []
    command += ["--debug"] if args.debug else []
    root = str(pathlib.Path(cnnjax.__file__).parents[1])  # the process may be started from any folder
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return subprocess.run([*command, "--", name], env={**os.environ, "PYTHONPATH": path}, check=False).returncode
