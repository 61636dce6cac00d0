# SPDX-License-Identifier: Apache-2.0
"""Sources by name, and a Hub of the test's own on the loopback: files, and what the real one refuses with."""

import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from cnnjax.errors import RunError, UsageError
from cnnjax.weights.hub import HubFile, parse_source
from cnnjax.weights.read import read_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = save({"module.w": np.arange(4, dtype=np.float32)})


def test_sources(tmp_path, monkeypatch):
    assert parse_source("hf:timm/resnet18.a1_in1k") == HubFile("timm/resnet18.a1_in1k", None, "model.safetensors")
    assert parse_source("timm/resnet18.a1_in1k") == parse_source("hf:timm/resnet18.a1_in1k")
    wanted = HubFile("a/b", "v1.0", "sub/w.safetensors")
    assert parse_source("hf:a/b@v1.0:sub/w.safetensors") == wanted
    assert str(wanted) == "hf:a/b@v1.0:sub/w.safetensors"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"")
    assert parse_source("a/b") == Path("a/b")  # what is here comes first
    assert parse_source("hf:a/b").__class__ is HubFile
    for missing in ("runs/resnet18.pth", "resnet18.safetensors", "/nowhere/at/all"):
        with pytest.raises(UsageError, match=f"no file {missing}"):
            parse_source(missing)
    for wrong in ("hf:resnet18", "hf:a/b/c", "hf:"):
        with pytest.raises(UsageError, match=r"not of the form hf:OWNER/NAME"):
            parse_source(wrong)


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the Hub does for the repository of each name."""

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(FILE)

    def answer(self, body):
        refusals = {
            "gated": (403, "GatedRepo"),
            "gone": (404, "RepoNotFound"),
            "nofile": (404, "EntryNotFound"),
            "norevision": (404, "RevisionNotFound"),
            "broken": (400, ""),
        }
        name = self.path.split("/")[2]
        status, code = refusals.get(name, (200, ""))
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if status == 200:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{"a" * 40}"')
        self.send_header("Content-Length", str(len(FILE) if status == 200 else 0))
        self.end_headers()
        if status == 200:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_of_the_hub(hub):
    weights = read_weights("hf:owner/net@main")
    np.testing.assert_array_equal(weights.tensors["w"], np.arange(4))
    assert weights.source == "hf:owner/net@main:model.safetensors"
    assert COMMIT in str(weights.path)


@pytest.mark.parametrize(
    ("repo", "sentence"),
    [
        ("gated", r"hf:owner/gated is gated: .*http://127\.0\.0\.1:\d+/owner/gated .*HF_TOKEN"),
        ("gone", r"there is no http.*/owner/gone, or it is private"),
        ("nofile", r"hf:owner/nofile has no file model\.safetensors; name another"),
        ("norevision", r"hf:owner/norevision has no revision 'main'"),
        ("broken", r"answered 400 for hf:owner/broken@main:model\.safetensors"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, repo, sentence):
    with pytest.raises(RunError, match=sentence) as caught:
        read_weights(f"hf:owner/{repo}@main")
    assert "\n" not in str(caught.value)


def test_a_name_that_no_repository_can_have(hub):
    with pytest.raises(UsageError, match="not a name that the Hub allows"):
        read_weights("hf:owner/a--b")


def test_no_hub_to_be_reached(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the port of discard, where nobody answers
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library tries again and again
    with pytest.raises(
        RunError, match=r"cannot reach http://127\.0\.0\.1:9, and hf:owner/net:model\.safetensors is not in"
    ):
        read_weights("owner/net")


def test_offline_by_the_users_wish(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match=r"hf:owner/net:model\.safetensors is not in the cache here; fetch it elsewhere"):
        read_weights("owner/net")
