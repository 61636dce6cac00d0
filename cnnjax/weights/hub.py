# SPDX-License-Identifier: Apache-2.0
"""Where weights come from: a file on this machine, or one of a repository on the Hugging Face Hub."""

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

from cnnjax.errors import RunError, UsageError

DEFAULT_FILE = "model.safetensors"
FORM = "hf:OWNER/NAME[@REVISION][:FILE]"
_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^:@]+))?(:(?P<file>[^:]+))?")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".th", ".bin", ".tar")


class HubFile(NamedTuple):
    """A file of a repository on the Hub."""

    repo: str
    revision: str | None  # a branch, tag or commit; None: main
    file: str

    def __str__(self) -> str:
        return f"hf:{self.repo}{f'@{self.revision}' if self.revision else ''}:{self.file}"


def parse_source(source: str) -> Path | HubFile:
    """A path, or `hf:OWNER/NAME[@REVISION][:FILE]`; without `hf:` a file that exists comes first.

    Raises:
      UsageError: it is neither.
    """
    path = Path(source)
    with contextlib.suppress(RuntimeError):  # "~someone" whom the machine does not know
        path = path.expanduser()
    named = source.startswith("hf:")
    if not named and "\0" not in source and path.exists():
        return path
    match = _REPOSITORY.fullmatch(source.removeprefix("hf:"))
    if match and (named or match["file"] or not source.endswith(_SUFFIXES)):
        return HubFile(match["repo"], match["revision"], match["file"] or DEFAULT_FILE)
    if named:
        raise UsageError(f"{source!r} is not of the form {FORM}, as in hf:timm/resnet18.a1_in1k")
    raise UsageError(f"no file {source}; give a file of weights or {FORM}")


def download(wanted: HubFile) -> Path:
    """The file, from the Hub's cache on this machine or from the Hub ($HF_ENDPOINT).

    Raises:
      UsageError: the name is not one that the Hub allows.
      RunError: it is not there, not open, or the Hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL)  # the library tells each of its retries; how it ended is told below
    endpoint = os.environ.get("HF_ENDPOINT") or None
    site = (endpoint or "https://huggingface.co").rstrip("/")
    name, page = f"hf:{wanted.repo}", f"{site}/{wanted.repo}"
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                wanted.repo, wanted.file, revision=wanted.revision, endpoint=endpoint, etag_timeout=10
            )
        )
    except errors.HFValidationError as error:
        raise UsageError(f"{name} is not a name that the Hub allows; write {FORM}") from error
    except errors.GatedRepoError as error:
        raise RunError(f"{name} is gated: accept its terms at {page} and set HF_TOKEN to a token of yours") from error
    except errors.RepositoryNotFoundError as error:
        raise RunError(f"there is no {page}, or it is private: mend the name, or set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise RunError(f"{name} has no revision {wanted.revision!r}; see {page}/tree/main") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        answer = getattr(error.__cause__, "response", None)  # the library takes an error of the Hub for no connection
        if answer is not None:
            raise RunError(f"{site} answered {answer.status_code} for {wanted}; try again later") from error
        raise RunError(_unreachable(wanted, site)) from error
    except errors.EntryNotFoundError as error:
        raise RunError(f"{name} has no file {wanted.file}; name another as {name}:FILE ({page}/tree/main)") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "unknown")
        raise RunError(f"{site} answered {status} for {wanted}; try again later") from error
    except Exception as error:  # the HTTP library has errors of its own for what is wrong with a connection
        raise RunError(f"{_unreachable(wanted, site)} ({type(error).__name__})") from error


def _unreachable(wanted: HubFile, site: str) -> str:
    return f"cannot reach {site}, and {wanted} is not in the cache here; fetch it elsewhere and give the file's path"
