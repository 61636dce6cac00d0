# SPDX-License-Identifier: Apache-2.0
"""Downloads that are either whole and verified or not there, from mirrors tried in turn."""

import contextlib
import hashlib
import http.client
import os
import pathlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import IO
from urllib.parse import urlsplit

from cnnjax.errors import RunError

ANSWER_SECONDS = 5.0
"""How long a host has to answer before it counts as out of reach."""

_STALL_SECONDS = 20.0  # of silence in the middle of a file, after which the next mirror is tried
_BLOCK = 1 << 16
_HEADERS = {"User-Agent": "cnnjax"}  # some mirrors refuse urllib's own name


def answering(urls: Sequence[str], seconds: float = ANSWER_SECONDS) -> list[str]:
    """Those of `urls` whose host answers in time, in their order; all are asked at once.

    An answer is any HTTP status: a file that is missing shows when it is fetched.
    """
    answered = set()

    def ask(url: str) -> None:
        try:
            urllib.request.urlopen(
                urllib.request.Request(url, method="HEAD", headers=_HEADERS), timeout=seconds
            ).close()
        except urllib.error.HTTPError as error:
            error.close()
        except (OSError, http.client.HTTPException, ValueError):
            return
        answered.add(url)

    # Threads, because a name server that is silent holds up a look-up for longer than any socket's timeout;
    # daemons, because such a thread must not hold up the end of the program.
    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    deadline = time.monotonic() + seconds + 0.5
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [url for url in urls if url in answered]


def fetch(urls: Sequence[str], path: pathlib.Path, size: int, sha256: str) -> str:
    """Downloads a file, with a progress bar on a terminal; `path` appears only once the file is verified.

    Args:
      urls: where the file is, the first choice first.
      path: what to write; its folder is made.
      size: bytes of the file.
      sha256: its checksum, hexadecimal.

    Returns:
      The one of `urls` that it came from.

    Raises:
      RunError: no mirror has the file with this checksum, or it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    reasons = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            for url in urls:
                file.seek(0)
                reason = _fetch_from(url, file, size, sha256)
                if not reason:
                    file.flush()
                    unfinished.replace(path)
                    return url
                reasons.append(f"{host(url)} ({reason})")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; make room, or set CNNJAX_CACHE_DIR") from error
    finally:
        with contextlib.suppress(OSError):  # it may never have been made
            unfinished.unlink()
    raise RunError(f"cannot download {path.name} from {', '.join(reasons)}; try again later, or put it there by hand")


def host(url: str) -> str:
    """The host of a URL, as shown to the user."""
    return urlsplit(url).netloc


def _fetch_from(url: str, file: IO[bytes], size: int, sha256: str) -> str:
    """Writes what `url` gives; returns "" when that is the file, else why it is not."""
    from tqdm import tqdm

    digest, left = hashlib.sha256(), size
    try:
        request = urllib.request.Request(url, headers=_HEADERS)
        response = urllib.request.urlopen(request, timeout=_STALL_SECONDS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _reason(error)
    with (
        response,
        tqdm(total=size, desc=urlsplit(url).path.rpartition("/")[2], unit="B", unit_scale=True, disable=None) as bar,
    ):
        while True:
            try:
                block = response.read(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                return _reason(error)
            if not block:
                break
            left -= len(block)
            if left < 0:
                return f"more than {size} bytes"
            digest.update(block)
            file.write(block)
            bar.update(len(block))
    if left:
        return f"{size - left} of {size} bytes"
    return "" if digest.hexdigest() == sha256 else "wrong checksum"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"status {error.code}"
    return " ".join(str(getattr(error, "reason", "") or error or type(error).__name__).split())[:100]
