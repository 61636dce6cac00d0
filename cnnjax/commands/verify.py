# SPDX-License-Identifier: Apache-2.0
"""Prove that runs of your config are exact: same seed, killed and resumed, one device and many.

  run.py verify --config=experiments/lenet5_digits.py

Each guarantee is tried on this machine, in processes of their own: the config trains for a few steps, twice; is killed
(kill -9) at random moments, within writing checkpoints and between, and started again; and runs on one device and on
many. On a CPU the many are made of its cores, elsewhere they are all there are. Every array of the last checkpoint and
every logged number is compared. Exits with 1 when a guarantee does not hold.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cnnjax.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="times that a run is killed; default: 3")
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="CPU devices against one; default: 4")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="of each run; default: 12")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the table; 0 when nothing failed."""
    from cnnjax.config import load_config
    from cnnjax.ensemble.configs import is_ensemble
    from cnnjax.ensemble.cross_validation import is_divided

    config = load_config(args.config, args.overrides)
    for name, least in (("kills", 1), ("devices", 2), ("steps", 2)):
        if getattr(args, name) < least:
            raise UsageError(f"--{name}={getattr(args, name)} is too few; give {least} or more")
    if is_ensemble(config) or is_divided(config):
        raise UsageError("verify proves a single run: give config.ensemble_size=1 or config.data.fold=0")

    import jax

    jax.config.update("jax_platforms", "cpu")  # this process only compares: the accelerators are for its children

    from cnnjax.verify.proofs import prove
    from cnnjax.verify.report import document, format_findings

    with _folder(args.workdir) as folder:
        counts = {"kills": args.kills, "devices": args.devices, "steps": args.steps}
        backend, findings = prove(config, folder, **counts)
    if args.json:
        print(json.dumps(document(backend, findings), ensure_ascii=False))
    else:
        print(format_findings(backend, findings))
    return int(any(finding.holds is False for finding in findings))


@contextlib.contextmanager
def _folder(workdir: str | None) -> Iterator[Path]:
    """Where the runs are laid: a new or empty folder, which stays when it is named."""
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="cnnjax-verify-") as folder:
            yield Path(folder)
        return
    path = Path(workdir).expanduser()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} is not empty: take another --workdir, or none for a temporary one")
    yield path
