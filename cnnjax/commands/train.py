# SPDX-License-Identifier: Apache-2.0
"""Train a network, or go on with a run that was stopped (the default command).

When the workdir holds a run, training goes on from its last checkpoint and ends with the same numbers, to the
bit on a CPU, as a run that was never stopped.
"""

import argparse
import sys

from cnnjax import processes
from cnnjax.errors import UsageError

TRAINS = True  # in its workdir
SEVERAL_PROCESSES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--dry_run", action="store_true", help="print config, parameters, memory and steps, and stop")
    parser.add_argument(
        "--accept_changes", action="store_true", help="go on with a run although its config was another one"
    )


def run(args: argparse.Namespace) -> int:
    """Trains; 0 when the run is complete, 128 + the signal's number when a signal stopped it."""
    from cnnjax.stopping import Stop, stopping_at_once

    try:
        with stopping_at_once():  # before the imports, which take a second
            told = _trained(args)
    except Stop as stop:
        if processes.is_first():
            print(stop.told(), file=sys.stderr)
        return stop.exit_code
    if processes.is_first():
        print(told)
    return 0


def _trained(args: argparse.Namespace) -> str:
    """Trains, or only describes the run; what is to be told of it."""
    from cnnjax.config import load_config
    from cnnjax.stopping import held_back

    config = load_config(args.config, args.overrides)
    if not args.workdir and not args.dry_run:
        raise UsageError("no workdir given; add --workdir=runs/NAME, the folder that the run writes to")

    with held_back():
        from cnnjax import devices, read_ahead

        if not args.dry_run:
            devices.use_compilation_cache()
            devices.set_up(config.train)
            read_ahead.begin(config)  # before the rest is imported, too

        from cnnjax import parts, training_run
        from cnnjax.ensemble.configs import is_ensemble, member_configs
        from cnnjax.ensemble.cross_validation import is_divided, train_folds
        from cnnjax.ensemble.ensemble_run import train_ensemble

    if args.dry_run:
        if not processes.is_first():
            return ""
        configs = member_configs(config) if is_ensemble(config) else [config]
        described = parts.describe(configs[0])
        if is_ensemble(config):
            described += f"\n\n{len(configs)} such networks at once, each a run of its own: WORKDIR/member0, ..."
        return described
    several, divided = is_ensemble(config), is_divided(config)
    if several and divided:
        raise UsageError("config.data.folds and config.ensemble_* ask for different runs: give one of them")
    if (several or divided) and processes.several():
        raise UsageError("several networks at once train in one process, on all its devices: leave out --num_processes")
    train = train_ensemble if several else train_folds if divided else training_run.train_run
    return train(config, args.workdir, accept_changes=args.accept_changes)
