# SPDX-License-Identifier: Apache-2.0
"""What every test runs under: two CPU devices, strict ranks, no network caches of the user's."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    # Else each process that a test starts reads the source of jax and all the others anew, which takes seconds.
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(__file__).parents[1] / ".pytest_cache/bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# Beside the other workers the threads of small matrix products mostly wait for each other, and burn what they wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
from jax._src import compiler
from jax.experimental.compilation_cache import compilation_cache

jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling is most of the suite's time. Tests of what optimisation could break (fusion moves the last bit of a
# number) are marked `optimized` and compile as users do.
jax.config.update("jax_disable_most_optimizations", True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow (minutes)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--slow"):  # before tests/fuzz is collected, which reads it
        os.environ.setdefault("CNNJAX_FUZZ_EXAMPLES", "2000")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.fixture(autouse=True)
def _optimization(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests marked `optimized` compile with all optimisations."""
    if "optimized" not in request.keywords:
        yield
        return
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session", autouse=True)
def _older_kernels() -> Iterator[None]:
    """XLA's older way to make kernels, in a third of the time, where it still has it; not for `optimized` tests."""
    older = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(jnp.negative, compiler_options=older)(1.0)
    except jax.errors.JaxRuntimeError:
        yield
        return
    usual = compiler.get_compile_options

    def choose(*args: Any, env_options_overrides: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        if jax.config.read("jax_disable_most_optimizations"):
            env_options_overrides = {**older, **(env_options_overrides or {})}
        return usual(*args, env_options_overrides=env_options_overrides, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", choose)
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A program that several tests build anew is compiled for the first; the folder is none a killed process writes."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.getbasetemp() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    compilation_cache.reset_cache()  # jax settles at its first program, maybe one of the collection, if there is one


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Decoded sets and downloads go to a folder of the test session, never to the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNJAX_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny():
    """`tiny(*overrides)`: a config that trains in a second: 96 synthetic 8x8 images, a small mlp, 6 steps of 16."""
    from cnnjax.config import load_config

    small = (
        "data.source=synthetic",
        "data.synthetic.num_examples=96",
        "data.synthetic.num_classes=3",
        "data.synthetic.image_shape=(8,8,1)",
        "data.batch_size=16",
        "data.eval_batch_size=16",
        "model.hidden=(8,)",
        "optimizer.learning_rate=0.05",
        "train.num_steps=6",
        "train.eval_every_steps=3",
        "train.checkpoint_every_steps=2",
        "train.log_every_steps=2",
    )

    def make(*overrides: str):
        default = Path(__file__).parents[1] / "experiments/default.py"
        ours = [
            o for o in small if not (o.startswith("model.") and any(p.startswith("model.name=") for p in overrides))
        ]
        return load_config(str(default), [f"--config.{o}" for o in (*ours, *overrides)])

    return make
