# SPDX-License-Identifier: Apache-2.0
"""What is typed: overrides, chains of layers, patterns, sources, kernels; or taken from a config of a stranger's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from cnnjax.commands.filter import parse_kernel
from cnnjax.config import flatten, load_config
from cnnjax.data import SOURCES
from cnnjax.data.carve import carve
from cnnjax.data.tfds import parse_name
from cnnjax.errors import UsageError
from cnnjax.export import find_platforms
from cnnjax.models.layer_spec import LAYERS, parse_layers
from cnnjax.optim import make_schedule
from cnnjax.patterns import parse_pairs, selected
from cnnjax.protocols.protocol import make_protocol
from cnnjax.sweep.grid import split_values
from tests.fuzz.tools import bounded, fuzz

DEFAULT = load_config("experiments/default.py")
KEYS = [*flatten(DEFAULT), "model.hidden", "model.x", "data", "", "a.b.c", "data.batchsize", "__class__"]
VALUES = (
    "",
    "0",
    "-1",
    "1e999",
    "nan",
    "None",
    "()",
    "(1,",
    "[[]]",
    "('a',)",
    "(0.1,)",
    "{1: 2}",
    "'",
    "9" * 5000,
    "x",
)
VALUES += ("True", "a=b", "__import__('os')", "(" * 3000, "1,2,3", "(8, 8)", "lambda: 0", "step", "multiscale", "\n")
CALLS = st.builds(
    "{}({})".format, st.sampled_from((*LAYERS, "os")), st.text("0123456789,=-()'[]e.*kernlsizp ", max_size=16)
)
PATHS = ["stem_conv/kernel", "stage1/block1/conv1/kernel", "stage1/block1/bn1/scale", "output/kernel", "output/bias"]
WORDS = st.text("stem*?[]!/outp1bn-", max_size=12)


@fuzz(2, key=st.sampled_from(KEYS), value=st.one_of(st.sampled_from(VALUES), st.text(max_size=10)), bare=st.booleans())
def test_overrides(key: str, value: str, bare: bool):
    with bounded():
        config = load_config("experiments/default.py", [f"--config.{key}" + ("" if bare else f"={value}")])
        assert config.is_locked and isinstance(config.data.batch_size, int)


@fuzz(2, text=st.one_of(CALLS, st.lists(CALLS, max_size=4).map(" > ".join), st.text(max_size=20)))
def test_chains_of_layers(text: str):
    with bounded():
        model = parse_layers(text)
        image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
        jax.eval_shape(model.init, jax.random.key(0), image)


@fuzz(patterns=st.lists(WORDS, max_size=3), entries=st.lists(st.one_of(WORDS, st.builds("{}={}".format, WORDS, WORDS))))
def test_patterns(patterns: list[str], entries: list[str]):
    with bounded():
        assert set(selected(patterns, PATHS, "config.freeze")) <= set(PATHS)
    with bounded():
        assert all(0 <= number < float("inf") for _, number in parse_pairs(entries, "config.unfreeze", "EPOCH"))


@fuzz(
    train=st.one_of(st.from_regex(r"train\[-?[0-9]{0,3}%?:-?[0-9]{0,3}%?\]", fullmatch=True), st.text(max_size=12)),
    folder=st.text(max_size=12),
    name=st.one_of(st.text(max_size=20), st.from_regex(r"\w{1,5}(/\w{0,3})?(:[\d.*]{0,8})?", fullmatch=True)),
)
def test_sources(train: str, folder: str, name: str):
    data: Any = DEFAULT.data.copy_and_resolve_references()
    data.train_split = train
    with bounded():
        carve({"train": 40, "test": 10}, data)
    with bounded():
        SOURCES["folder"](folder, data)
    with bounded():
        parsed = parse_name(name)
        assert ".." not in parsed.name and "/" not in parsed.name


@fuzz(text=st.one_of(st.text("0123456789,;/-.e ", max_size=20), st.text(max_size=12)))
def test_kernels_platforms_and_grids(text: str):
    with bounded():
        assert np.isfinite(np.array(parse_kernel(text))).all()
    with bounded():
        find_platforms(text)
    with bounded():
        assert all(split_values("a", text)) or text.strip() == ""


@fuzz(
    changes=st.dictionaries(
        st.sampled_from([k for k in KEYS if k.startswith(("schedule.", "eval."))]), st.sampled_from(VALUES)
    )
)
def test_schedules_and_protocols(changes: dict[str, str]):
    with bounded():
        config: Any = load_config(
            "experiments/default.py", [f"--config.{key}={value}" for key, value in changes.items()]
        )
        schedule = make_schedule(config.schedule, peak=0.1, num_steps=20, steps_per_epoch=4.0)
        assert np.isfinite(float(np.asarray(schedule(3))))
        make_protocol(config, (8, 8, 1))


def test_what_it_found():
    config: Any = load_config("experiments/default.py", ["--config.model.hidden=None"])
    assert config.model.hidden is None
    with pytest.raises(UsageError, match=r"layer local_response_norm, given .*: ZeroDivisionError"):
        model = parse_layers("local_response_norm(0)")
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
