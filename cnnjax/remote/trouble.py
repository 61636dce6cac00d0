# SPDX-License-Identifier: Apache-2.0
"""What a store's library raises, as one line with a remedy; and whether it is worth trying again.

The libraries have no common base of errors, and each is optional: they are told by name and code.
"""

import errno

from cnnjax.errors import RunError, UsageError

EXTRAS = {"gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3")}
"""By scheme: the package, and the extra of this project that installs it."""

_NO_CREDENTIALS = {
    "DefaultCredentialsError",
    "RefreshError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # of this machine's disk
_WRONG = {errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, *_FULL}
_LIBRARIES = ("aiohttp", "botocore", "aiobotocore", "requests", "urllib3", "google.auth")


class Unreachable(RunError):
    """The store does not answer, or asks to come back later."""


class Vanished(RunError):
    """An object that was listed is gone."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: no answer, a time-out, or an answer that says so."""
    code = _code(error)
    if code is not None:
        return code in (408, 429) or code >= 500
    if isinstance(error, PermissionError | FileNotFoundError | FileExistsError) or "Forbidden" in str(error):
        return False
    if type(error).__name__ in _NO_CREDENTIALS:
        return False
    if isinstance(error, OSError):
        return error.errno not in _WRONG
    return isinstance(error, TimeoutError) or type(error).__module__.startswith(_LIBRARIES)


def explained(error: BaseException, url: str) -> RunError:
    """The one line for an error that trying again does not mend."""
    scheme, _, rest = url.partition("://")
    bucket, aws = f"{scheme}://{rest.partition('/')[0]}", scheme.startswith("s3")
    if type(error).__name__ in _NO_CREDENTIALS or _code(error) == 401:
        remedy = (
            "run 'aws configure', or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            if aws
            else "run 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS to a key file"
        )
        return RunError(f"no usable credentials for {bucket}: {remedy} ({_short(error)})")
    if isinstance(error, PermissionError) or _code(error) == 403 or "Forbidden" in str(error):
        needed = (
            "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
            if aws
            else "the role Storage Object User (roles/storage.objectUser)"
        )
        return RunError(f"permission denied by {bucket}: the credentials in use need {needed} there ({_short(error)})")
    if isinstance(error, FileNotFoundError):
        make = f"aws s3 mb {bucket}" if aws else f"gcloud storage buckets create {bucket}"
        return RunError(f"there is no bucket {bucket}: correct --workdir, or make it ('{make}')")
    if isinstance(error, OSError) and error.errno in _FULL:
        return RunError(f"cannot write {error.filename or 'to the disk'}: {error.strerror}; make room on this machine")
    return RunError(f"cannot use {url}: {_short(error)}")


def unreachable(error: BaseException, url: str) -> Unreachable:
    """The one line for a store that was tried for long enough."""
    return Unreachable(f"cannot reach {url}: {_short(error)}; the same command goes on when it can be reached")


def not_installed(error: ImportError, url: str) -> UsageError:
    """The one line for a scheme whose package is missing."""
    scheme = url.partition("://")[0]
    package, extra = EXTRAS.get(scheme, (error.name or "a package", ""))
    how = f"uv sync --extra {extra}" if extra else f"install {package}"
    return UsageError(f"{scheme}:// needs {package}, which is not installed: {how}")


def _code(error: BaseException) -> int | None:
    """The HTTP status that an error carries."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for value in (getattr(error, "code", None), getattr(error, "status", None)):
        if isinstance(value, int | str) and str(value).isdigit():
            return int(value)
    return None


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
