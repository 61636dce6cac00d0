# SPDX-License-Identifier: Apache-2.0
"""The commands of `run.py`, a module each; a new file here is a new command.

A command module has a docstring whose first line is its help, `add_arguments(parser)` and `run(args)`, which
returns the exit code. Its imports at the top are cheap, so that help appears at once; jax comes inside `run`.
"""

import argparse
import contextlib
import importlib
import logging
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from cnnjax import processes
from cnnjax.errors import CnnjaxError, UsageError, nearest_first, unknown

_SCREEN = """cnnjax: convolutional networks as pure functions, in JAX

  run.py [COMMAND] --config=FILE[:VARIANT] --workdir=DIR [--config.KEY=VALUE ...]

Commands ('run.py COMMAND --help' gives the flags of one):
{commands}

Examples:
  run.py --config=experiments/lenet5_digits.py --workdir=runs/digits
  run.py --config=experiments/lenet5_digits.py --workdir=runs/fast --config.optimizer.learning_rate=0.2
  run.py --config=experiments/lenet5_digits.py --workdir=runs/mine --config.model.name=my_net.py:my_net
  run.py evaluate --workdir=runs/digits --json
  run.py predict --workdir=runs/digits digit.png

Every key of a config, with its meaning and unit: experiments/default.py. A config in Python is code: run only
those you trust. The config.json of a run is data, and serves as --config, too. A traceback of any error: --debug."""

_LOUD = ("absl", "asyncio", "gcsfs", "s3fs", "fsspec", "aiobotocore", "botocore", "google")
"""Libraries whose reports our own errors say in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code: 0 done, 1 it could not be done, 2 wrong usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("help", "-h", "--help"):
        print(_screen())
        return 0
    code, message, unexpected = _outcome(argv)
    return processes.leave(code, message, unexpected=unexpected)


def _outcome(argv: list[str]) -> tuple[int, str | None, bool]:
    """(exit code, what to tell of an error, whether it is none of ours) of a command line."""
    debug = "--debug" in argv
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    for library in _LOUD:
        logging.getLogger(library).setLevel(logging.DEBUG if debug else logging.CRITICAL)
    logging.getLogger("cnnjax").setLevel(logging.INFO)
    try:
        command, rest = ("train", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
        args = _parse(command, rest)
        if getattr(_module(command), "SEVERAL_PROCESSES", False):
            _join(command, args)
        else:
            _check_alone(command, args)
        with _local(command, args) as args:
            return _module(command).run(args), None, False
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of the pipe has gone: so do we
        return 1, None, False
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            return 130, "interrupted", False
        if isinstance(error, CnnjaxError):
            return error.exit_code, f"error: {error}", False
        detail, kind = " ".join(str(error).split()), type(error).__name__
        return 1, f"error: {kind}: {detail[:400]} (--debug shows where)", True


def _join(command: str, args: argparse.Namespace) -> None:
    """Joins the other processes, when this one is told to be one of several."""
    place = processes.find_place(args.coordinator, args.num_processes, args.process_id, os.environ)
    if place is None:
        return
    from cnnjax.config import load_config

    try:
        config = load_config(args.config, args.overrides).to_dict() if args.config else None
        facts = processes.facts(command, config)
    except CnnjaxError as error:
        facts = {"error": str(error)}
    processes.join(place, facts, args.start_seconds)


def _check_alone(command: str, args: argparse.Namespace) -> None:
    """Raises UsageError where a command that one process does is started as one of several."""
    flags = (args.coordinator, args.num_processes, args.process_id)
    told = "by the flags" if flags != (None, None, None) else None
    if not told and getattr(_module(command), "ONCE", False):
        place = processes.find_place(*flags, os.environ)
        told = place and f"by {place.source}: {place.num_processes} processes"
    if told and args.num_processes != 1:
        raise UsageError(
            f"{command} is done by one process, on all its devices, and this is one of several (told {told}); start it "
            "once, with --num_processes=1"
        )


def names() -> list[str]:
    """The commands there are, sorted; an underscore of the module's name is typed as a hyphen."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def _module(command: str) -> ModuleType:
    if command not in names():
        raise UsageError(unknown("command", command, names()))
    return importlib.import_module(f"{__name__}.{command.replace('-', '_')}")


def _screen() -> str:
    width = max(map(len, names()))
    lines = [f"  {name:<{width}}  {(_module(name).__doc__ or '').splitlines()[0].rstrip('.')}" for name in names()]
    return _SCREEN.format(commands="\n".join(lines))


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line with a remedy."""

    def error(self, message: str) -> NoReturn:
        wrong = message.partition("unrecognized arguments: ")[2].split()
        if wrong and wrong[0].startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            message = f"unknown flag {wrong[0]}; did you mean {nearest_first(wrong[0].partition('=')[0], flags)[0]}?"
        raise UsageError(f"{message} ('{self.prog} --help' lists the flags)")


def _add_process_arguments(parser: argparse.ArgumentParser, *, shown: bool) -> None:
    """The flags of several processes; not `shown` in the help of a command that is for one, which refuses them."""
    title = ("several processes", "start the same command in each; schedulers and Cloud TPUs tell these themselves")
    group = parser.add_argument_group(*title if shown else ())

    def add(flag: str, kind: type, metavar: str, text: str, default: float | None = None) -> None:
        group.add_argument(flag, type=kind, metavar=metavar, default=default, help=text if shown else argparse.SUPPRESS)

    add("--coordinator", str, "HOST:PORT", "of process 0, which listens there")
    add("--num_processes", int, "N", "how many there are; 1: this one trains alone")
    add("--process_id", int, "I", "which one this is, from 0; that writes and prints")
    add("--start_seconds", float, "S", "how long to wait for the others (300)", 300.0)


def _parse(command: str, argv: list[str]) -> argparse.Namespace:
    module = _module(command)
    parser = _Parser(
        prog=f"run.py {command}",
        description=module.__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE[:VARIANT]", help="the experiment; --config.KEY=VALUE overrides a key")
    several = getattr(module, "SEVERAL_WORKDIRS", False)
    parser.add_argument(
        "--workdir",
        action="append",
        metavar="DIR",
        help="the folder of the run" + ("; several: give it again" if several else ""),
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    _add_process_arguments(parser, shown=getattr(module, "SEVERAL_PROCESSES", False))
    module.add_arguments(parser)
    args = parser.parse_args([token for token in argv if not token.startswith("--config.")])
    args.workdirs = args.workdir or []
    if len(args.workdirs) > 1 and not several:
        raise UsageError(f"--workdir is given {len(args.workdirs)} times; {command} takes one")
    args.workdir = args.workdirs[0] if args.workdirs else None
    args.overrides = [token for token in argv if token.startswith("--config.")]
    return args


def _local(command: str, args: argparse.Namespace) -> contextlib.AbstractContextManager[argparse.Namespace]:
    """The arguments with local folders in place of URLs (gs://, s3://), for as long as the command runs."""
    from cnnjax.remote import places

    if not processes.is_first() or not places.is_any_remote(args) or getattr(args, "dry_run", False):
        return contextlib.nullcontext(args)
    module = _module(command)
    return places.local(args, trains=getattr(module, "TRAINS", False), which=places.checkpoints(args, module))
