# SPDX-License-Identifier: Apache-2.0
import errno
import importlib
import sys
from pathlib import Path

import pytest

from cnnjax.errors import RunError, UsageError
from cnnjax.remote.store import Store
from cnnjax.remote.trouble import Unreachable, explained, is_transient


class HttpError(Exception):  # as gcsfs has it
    def __init__(self, code: int):
        super().__init__(f"it says {code}")
        self.code = code


class NoCredentialsError(Exception):  # as botocore has it
    pass


class DefaultCredentialsError(Exception):  # as google.auth has it
    pass


def failing(error: Exception, times: int):
    """A hook that raises the first `times` times."""
    calls = []

    def hook(request: str, path: str) -> None:
        calls.append(request)
        if len(calls) <= times:
            raise error

    return hook, calls


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError(), HttpError(503), HttpError(429)])
def test_what_fails_for_the_moment_is_tried_again(bucket, error):
    bucket.before, calls = failing(error, 3)
    Store("bucket://b/run").write("a", b"1")
    assert len(calls) == 4 and bucket.objects["b/run/a"][0] == b"1"


def test_patience_has_an_end(bucket):
    bucket.before, calls = failing(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), 10**6)
    with pytest.raises(Unreachable, match=r"^cannot reach bucket://b/run: ConnectionRefusedError: .*refused"):
        Store("bucket://b/run", patience=0.05).read("a")
    assert len(calls) > 2


@pytest.mark.parametrize(
    ("url", "error", "told"),
    [
        (
            "gs://b/run",
            OSError("Forbidden: b/o\nno storage.objects.create"),
            "permission denied by gs://b: .*objectUser",
        ),
        ("s3://b/run", PermissionError("Access Denied"), "permission denied by s3://b: .*s3:PutObject"),
        ("gs://b/run", HttpError(401), "no usable credentials for gs://b: run 'gcloud auth application-default login'"),
        ("gs://b/run", DefaultCredentialsError(), "no usable credentials for gs://b: run 'gcloud auth"),
        ("s3://b/run", NoCredentialsError("none"), "no usable credentials for s3://b: run 'aws configure'"),
        (
            "s3://b/run",
            FileNotFoundError("b"),
            r"there is no bucket s3://b: correct --workdir, or make it \('aws s3 mb",
        ),
        ("gs://b/run", FileNotFoundError("b"), r"make it \('gcloud storage buckets create gs://b'\)"),
        (
            "gs://b/run",
            OSError(errno.ENOSPC, "No space left", "/tmp/x"),
            "cannot write /tmp/x: No space left; make room",
        ),
        ("gs://b/run", ValueError("Bad\nRequest"), "cannot use gs://b/run: ValueError: Bad Request"),
    ],
)
def test_what_lasts_is_told_at_once_in_one_line(bucket, url, error, told):
    assert not is_transient(error)
    line = explained(error, url)
    assert "\n" not in str(line)
    with pytest.raises(RunError, match=told):
        raise line
    bucket.before, calls = failing(error, 10**6)
    with pytest.raises(RunError):
        Store("bucket://b/run").write("a", b"1")
    assert len(calls) == 1


@pytest.mark.parametrize(("scheme", "package", "extra"), [("gs", "gcsfs", "gcs"), ("s3", "s3fs", "s3")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, scheme, package, extra):
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UsageError, match=f"{scheme}:// needs {package}, which is not installed: uv sync --extra {extra}"
    ):
        Store(f"{scheme}://b/run")


@pytest.mark.parametrize("url", ["gss://b/run", "nothing://b"])
def test_an_unknown_scheme_is_told(url):
    with pytest.raises(UsageError, match=f"{url} cannot be opened: .*; gs://BUCKET/RUN and s3://BUCKET/RUN can"):
        Store(url)


def test_an_object_is_made_by_one_only_and_knows_its_own_attempt(bucket):
    store = Store("bucket://b/run")
    store.write("lease", b"mine", exclusive=True)
    store.write("lease", b"mine", exclusive=True)  # an attempt that had seemed to fail
    with pytest.raises(FileExistsError):
        store.write("lease", b"yours", exclusive=True)
    assert bucket.objects["b/run/lease"][0] == b"mine"


def test_names_that_leave_the_folder_are_refused(bucket):
    for name in ("../../etc/passwd", "a/../../b", "..\\b"):
        bucket.objects = {f"b/run/{name}": (b"", 1)}
        with pytest.raises(RunError, match="is no file of a run"):
            Store("bucket://b/run").list()


def test_a_fetched_file_is_whole_or_not_there(bucket, tmp_path: Path):
    store = Store("bucket://b/run", patience=0.01)
    store.write("a", b"new")
    (tmp_path / "a").write_bytes(b"old")
    bucket.before, _ = failing(ConnectionResetError(), 10**6)
    with pytest.raises(Unreachable):
        store.fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
