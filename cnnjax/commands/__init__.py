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
    debug = "--debug" in argv
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    for library in _LOUD:
        logging.getLogger(library).setLevel(logging.DEBUG if debug else logging.CRITICAL)
    logging.getLogger("cnnjax").setLevel(logging.INFO)
    try:
        command, rest = ("train", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
        args = _parse(command, rest)
        with _local(command, args) as args:
            return _module(command).run(args)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug=debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of the pipe has gone: so do we
        return 1
    except CnnjaxError as error:
        return _fail(f"error: {error}", error.exit_code, debug=debug)
    except Exception as error:
        detail = " ".join(str(error).split())
        kind = type(error).__name__
        return _fail(f"error: {kind}: {detail[:400]} (--debug shows where)", 1, debug=debug)


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

    if not places.is_any_remote(args) or getattr(args, "dry_run", False):
        return contextlib.nullcontext(args)
    module = _module(command)
    return places.local(args, trains=getattr(module, "TRAINS", False), which=places.checkpoints(args, module))


def _fail(message: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)
    return code
