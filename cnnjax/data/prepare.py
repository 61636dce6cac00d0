# SPDX-License-Identifier: Apache-2.0
"""Prepares a tensorflow-datasets set in ArrayRecord: `python -m cnnjax.data.prepare NAME [--data_dir=DIR]`.

This runs in a process of its own, the only one that TensorFlow is ever loaded in, and only for the sets that need it.
Where the network is out of reach, it fails in seconds, and only when something has in fact to be downloaded.
"""

import argparse
import contextlib
import functools
import importlib.util
import io
import logging
import os
import pathlib
import re
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from cnnjax.data.download import ANSWER_SECONDS, answering, host
from cnnjax.data.tfds import Name, check_known, data_folder, find_prepared, parse_name
from cnnjax.errors import CnnjaxError, RunError, UsageError, unknown

_NO_ANSWER = "no answer from {}; run this where there is a network, or copy the prepared set here"
_MOST_HOSTS = 16  # that are asked
_LONGEST_REASON = 400  # characters of another program's message

logger = logging.getLogger(__name__)


def prepare(name: Name, folder: pathlib.Path) -> pathlib.Path:
    """Downloads and writes a set, unless it is there.

    Args:
      name: which.
      folder: where prepared sets lie; what is downloaded is kept in its subfolder downloads.

    Returns:
      The folder of the prepared set.

    Raises:
      UsageError: there is no such set, configuration or version.
      RunError: TensorFlow, the network or files that must be fetched by hand are missing, or preparing fails.
    """
    found = find_prepared(name, folder)
    if found is not None:
        return pathlib.Path(found.data_path)
    check_known(name)
    _quiet_unless_watched()
    tensorflow = importlib.util.find_spec("tensorflow") is not None
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its banners are not results
            builder = _builder(name, folder)
            _check_manual(name, builder, folder)
            if not tensorflow and _uses_tensorflow(sys.modules[type(builder).__module__]):
                raise _needs_tensorflow(name)
            _check_network(builder, folder)
            with _offline_is_an_error():
                builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        raise _explained(name, error) from error
    return pathlib.Path(builder.data_path)


def _builder(name: Name, folder: pathlib.Path) -> Any:
    import tensorflow_datasets as tfds

    configs = list(tfds.builder_cls(name.name).builder_configs)
    if name.config and name.config not in configs:
        raise UsageError(unknown(f"configuration of tfds:{name.name}", name.config, configs))
    given: dict[str, Any] = {key: value for key in ("config", "version") if (value := getattr(name, key))}
    try:
        builder = tfds.builder(name.name, data_dir=str(folder), **given)
    except AssertionError as error:  # tfds's way of refusing a version
        _, _, refusal = str(error).rpartition(": Dataset ")
        raise UsageError(f"{name} cannot be had: {refusal}") from error
    if builder.is_prepared():
        raise RunError(f"{builder.data_path} is there in a format that is not read; give another --data_dir")
    return builder


def _quiet_unless_watched() -> None:
    """No progress bars but on a terminal."""
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()


def _uses_tensorflow(module: ModuleType) -> bool:
    """Whether a set's own code calls TensorFlow; images that come as arrays, which also do, show only later."""
    path = getattr(module, "__file__", None)
    return bool(path) and re.search(r"\btf\.\w", pathlib.Path(path).read_text(encoding="utf-8")) is not None


def _needs_tensorflow(name: Name) -> RunError:
    return RunError(f"preparing {name} needs TensorFlow; run 'uv sync --extra prepare' (or pip install tensorflow-cpu)")


def _check_manual(name: Name, builder: Any, folder: pathlib.Path) -> None:
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    place = folder / "downloads" / "manual"
    if instructions and not (place.is_dir() and any(place.iterdir())):
        text = " ".join(instructions.split())[:_LONGEST_REASON]
        raise RunError(f"{name} has to be downloaded by hand; put its files into {place}, then run this again: {text}")


def _check_network(builder: Any, folder: pathlib.Path) -> None:
    """Spares the user half a start: of what must be downloaded, nothing is there yet, and no host answers."""
    place = folder / "downloads"
    by_host = {host(url): url for url in builder.url_infos or () if url.startswith("http")}
    if (
        by_host
        and not (place.is_dir() and any(place.iterdir()))
        and not answering(list(by_host.values())[:_MOST_HOSTS])
    ):
        raise RunError(_NO_ANSWER.format(", ".join(by_host)[:_LONGEST_REASON]))


@contextlib.contextmanager
def _offline_is_an_error() -> Iterator[None]:
    """Within, the first use of a host that does not answer raises RunError, at once and through every retry."""
    look_up = socket.getaddrinfo

    @functools.cache
    def answers(name: str, port: int) -> bool:
        connected = threading.Event()

        def connect() -> None:
            for family, kind, protocol, _, address in look_up(name, port, 0, socket.SOCK_STREAM):
                with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as connection:
                    connection.settimeout(ANSWER_SECONDS)
                    connection.connect(address)
                    connected.set()
                    return

        def ask() -> None:
            with contextlib.suppress(OSError):
                connect()

        thread = threading.Thread(target=ask, daemon=True)  # a silent name server has no time limit of ours
        thread.start()
        thread.join(ANSWER_SECONDS)
        return connected.is_set()

    def checked(name: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(name, str) and isinstance(port, int) and not answers(name, port):
            raise RunError(_NO_ANSWER.format(name))
        return look_up(name, port, *args, **kwargs)

    socket.getaddrinfo = checked
    try:
        yield
    finally:
        socket.getaddrinfo = look_up


def _explained(name: Name, error: Exception) -> CnnjaxError:
    """The error in a line: that of ours at its root, or what the library says."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, CnnjaxError):
            return seen
        if isinstance(seen, ModuleNotFoundError) and seen.name:  # re-raised, it has lost its name
            package = seen.name.partition(".")[0]
            if package == "tensorflow":
                return _needs_tensorflow(name)
            return RunError(f"preparing {name} needs the Python package {package}; install it (pip install {package})")
        seen = seen.__cause__ or seen.__context__
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    return RunError(f"preparing {name} failed: {type(error).__name__}: {text}; --debug shows where")


def main(argv: list[str] | None = None) -> int:
    """Prepares one set and prints its folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cnnjax.data.prepare", description=__doc__)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--data_dir", metavar="DIR")
    parser.add_argument("--debug", action="store_true")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        name, folder = parse_name(args.name), data_folder(args.data_dir).absolute()
        logger.info("preparing %s in %s", name, folder)
        print(prepare(name, folder))
    except KeyboardInterrupt:
        return 130
    except CnnjaxError as error:
        if args.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
