# SPDX-License-Identifier: Apache-2.0
"""Hostile input for every parser, and what each of them must do with it.

The tests of this folder mirror no module: each takes a kind of input that may come from a stranger, and asks for the
right answer or one clear line, whatever the bytes are: no other exception, no hang, no memory that the input does not
fill. The inputs are the same in every run. CNNJAX_FUZZ_EXAMPLES says how many each test takes (100; 2,000 with --slow).
"""

import contextlib
import json
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnjax.errors import CnnjaxError

EXAMPLES = int(os.environ.get("CNNJAX_FUZZ_EXAMPLES", "100"))
ROOM = 2**30
"""Bytes that a parser may take beside what the process has; its inputs take some KiB."""
SECONDS = 20
"""Of processor time, for one input; the slowest takes a tenth of one."""

_CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def fuzz(share: float = 1.0, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """A test of many inputs: `share` of EXAMPLES, always the same ones."""

    def decorate(test: Callable[..., None]) -> Any:
        return settings(
            max_examples=max(10, round(EXAMPLES * share)),
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=_CHECKS,
        )(given(**strategies)(test))

    return decorate


@contextlib.contextmanager
def bounded(*kinds: type[Exception]) -> Iterator[None]:
    """Whatever is parsed in here ends well, or in a CnnjaxError of one line (or one of `kinds`), soon and small."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"more than {SECONDS} s of processor time")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    except CnnjaxError as error:
        text = str(error)
        assert "\n" not in text and 0 < len(text) < 1500, text
    except kinds:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@st.composite
def damaged(draw: Any, *valid: bytes) -> bytes:
    """One of the sound contents with a few changes: bytes, numbers of 2 and 4 bytes, parts cut, doubled or put in."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("byte", "bit", "number", "cut", "drop", "double", "insert"))):
            case "byte":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "bit":
                data[at : at + 1] = bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) if data else b""
            case "number":
                form = draw(st.sampled_from(("<H", ">H", "<I", ">I")))
                number = draw(st.sampled_from(_NUMBERS)) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
                data[at : at + struct.calcsize(form)] = struct.pack(form, number)
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 16))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


def anything(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Mostly sound contents, damaged; now and then any bytes."""
    return st.one_of(damaged(*valid), damaged(*valid), damaged(*valid), st.binary(max_size=64))


HOSTILE_JSON = (
    "null", "true", "0", "-1", "3", "1e999", "-1e999", "NaN", "Infinity", "1e308", "123456789012345678901234567890",
    "9" * 5000, "0.5", '""', '"x"', '"NaN"', '"../../etc/passwd"', '"/etc/passwd"', '"a\\u0000b"', '"\\ud800"',
    '"a\\nb\\u001b[31m"', "[]", "{}", "[1]", '["a"]', "[[[1]]]", '{"a": 1}', '{"": 0}', '{"a.b": 1}', '[null]',
    "[1e999]", '["..", "/"]', "[" * 5000 + "]" * 5000, "[1000000000, 1000000000, 3]", '"os:system"', "[0, 0, 0]",
)  # fmt: skip
"""What is put in the place of a value."""


@st.composite
def changed_json(draw: Any, valid: Any) -> bytes:
    """A JSON document with one to three of its values, at any depth, replaced, left out, doubled or renamed."""
    marks: dict[str, str] = {}
    document = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(("replace", "replace", "replace", "drop", "rename", "add"))):
            case "replace":
                mark = f"@{len(marks)}@"
                marks[f'"{mark}"'] = draw(st.sampled_from(HOSTILE_JSON))
                container[key] = mark
            case "drop":
                del container[key]
            case "rename" if isinstance(container, dict):
                container[draw(st.sampled_from(("", "x", "items", "__class__", "a.b", "é", "step")))] = container.pop(
                    key
                )
            case "add" if isinstance(container, list):
                container.append(container[key])
    text = json.dumps(document)
    for mark, hostile in marks.items():
        text = text.replace(mark, hostile)
    return text.encode()


def hostile_json(valid: Any) -> st.SearchStrategy[bytes]:
    """A document changed as JSON or as bytes."""
    changed = changed_json(valid)
    return st.one_of(changed, changed, changed, anything(json.dumps(valid).encode()))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: Sequence[Any] = (
        list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])
