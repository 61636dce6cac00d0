# SPDX-License-Identifier: Apache-2.0
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import build_model, load_network
from cnnjax.training_run import train_run
from cnnjax.transfer.start import START_FILE, read_origin
from cnnjax.types import Config
from cnnjax.weights import export_safetensors
from cnnjax.weights.importing import write_run
from cnnjax.workdir import DatasetInfo

SHAPE = (8, 8, 1)
THREE, FOUR = ("a", "b", "c"), ("a", "b", "c", "d")


def make_run(workdir: Path, config: Config, names: tuple[str, ...] = THREE, seed: int = 7) -> dict:
    """A run at step 0 with random parameters; gives them by path."""
    model = build_model(config, len(names))
    params, state = jax.jit(model.init)(jax.random.key(seed), np.zeros((1, *SHAPE), np.float32))
    write_run(workdir, config, DatasetInfo("made", names, SHAPE, {}), params, state, {})
    return params


def start(config: Config, names: tuple[str, ...] = THREE):
    origin = read_origin(config, build_model(config, len(names)), names, SHAPE)
    return origin.begin(jax.random.key(0)), origin.report


def same(a, b) -> bool:
    return bool(np.array_equal(a, b))


def test_all_of_a_run_is_taken_for_the_same_classes(tiny, tmp_path):
    params = make_run(tmp_path / "run", tiny())
    for spec in ("run", "run@0", "run@latest"):
        begun, report = start(tiny(f"init_from={tmp_path / spec}"))
        assert jax.tree.all(jax.tree.map(same, begun.params, params)) and begun.new == frozenset()
        assert report.counts() == {"loaded": 4, "replaced": 0, "renamed": 0, "left": 0}
        assert report.origin["step"] == 0


@pytest.mark.parametrize("names", [FOUR, ("a", "c", "b")])
def test_an_output_for_other_classes_starts_anew(tiny, tmp_path, names: tuple[str, ...]):
    params = make_run(tmp_path / "run", tiny())
    begun, report = start(tiny(f"init_from={tmp_path / 'run'}"), names)
    assert same(begun.params["hidden1"]["kernel"], params["hidden1"]["kernel"])
    assert begun.params["output"]["kernel"].shape == (8, len(names))
    assert not same(begun.params["output"]["kernel"], params["output"]["kernel"])
    assert begun.new == {"output/kernel", "output/bias"}
    assert report.counts() == {"loaded": 2, "replaced": 2, "renamed": 0, "left": 0}
    assert "the output is for other classes" in report.text()


def test_running_statistics_come_along(tiny, tmp_path):
    config = tiny("model.name=resnet_cifar", "model.depth=8")
    model = build_model(config, 3)
    shapes = jax.eval_shape(model.init, jax.random.key(7), np.zeros((1, 8, 8, 3), np.float32))  # pyright: ignore[reportArgumentType]
    params, state = jax.tree.map(lambda x: np.random.default_rng(x.size).random(x.shape, np.float32), shapes)
    write_run(tmp_path / "run", config, DatasetInfo("made", THREE, (8, 8, 3), {}), params, state, {})
    scanned = tiny(f"init_from={tmp_path / 'run'}", "model.name=resnet_cifar", "model.depth=8", "model.scan=true")
    begun = read_origin(scanned, build_model(scanned, 3), THREE, (8, 8, 3)).begin(jax.random.key(0))
    assert jax.tree.all(jax.tree.map(same, begun.model_state, state))


def test_a_file_of_weights_and_renamed_arrays(tiny, tmp_path):
    config, file = tiny(), tmp_path / "weights.safetensors"
    params = make_run(tmp_path / "run", config)
    export_safetensors(file, model_name="mlp", params={"head": params["output"], "net": {"a": params["hidden1"]}},
                       model_state={})  # fmt: skip
    begun, report = start(
        tiny(f"init_from={file}", "init_rename=params/head=params/output,params/net/a=params/hidden1")
    )
    assert jax.tree.all(jax.tree.map(same, begun.params, params))
    assert report.counts() == {"loaded": 4, "replaced": 0, "renamed": 4, "left": 0}
    assert len(report.origin["sha256"]) == 64


def test_what_does_not_fit_is_an_error_with_a_table_unless_it_is_allowed(tiny, tmp_path, caplog):
    params = make_run(tmp_path / "run", tiny("model.hidden=(8,6)"))
    where = f"init_from={tmp_path / 'run'}"
    with pytest.raises(RunError) as error:
        start(tiny(where, "model.hidden=(8,6,5)"))
    assert "of 8 arrays 2 missing, 0 unexpected, 1 shape differs" in str(error.value) and "\n" not in str(error.value)
    assert "params.hidden3.kernel" in caplog.text
    begun, report = start(tiny(where, "model.hidden=(8,6,5)", "init_allow=hidden3,output"))
    assert same(begun.params["hidden2"]["kernel"], params["hidden2"]["kernel"])
    assert begun.new == {"hidden3/kernel", "hidden3/bias", "output/kernel"}
    with pytest.raises(RunError, match="0 missing, 2 unexpected, 1 shape differs"):
        start(tiny(where))
    _, report = start(tiny(where, "init_allow=hidden2,output/kernel"))
    assert report.counts()["left"] == 2


def test_renaming_a_run(tiny, tmp_path):
    params = make_run(tmp_path / "run", tiny("model.hidden=(8,8)"))
    config = tiny(f"init_from={tmp_path / 'run'}", "init_rename=hidden2=hidden9,hidden1=hidden1", "init_allow=hidden9")
    begun, report = start(config)
    assert same(begun.params["hidden1"]["kernel"], params["hidden1"]["kernel"])
    assert report.counts()["left"] == 2 and "was params.hidden2.kernel" in report.text()


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (("init_from=nowhere/at_all.pth",), UsageError, "no file nowhere/at_all.pth; give a file"),
        (("init_from=RUN@3",), UsageError, "no checkpoint '3'; there are latest, best and 0"),
        (("init_from=RUN", "init_rename=stem=hidden1"), UsageError, "'stem' matches none of the source's names"),
        (("init_from=RUN", "init_allow=stem"), UsageError, "config.init_allow: 'stem' matches no parameter"),
        (("init_from=RUN", "init_rename=*=other/*"), RunError, "none of its 4 arrays is one of the network's: it has"),
    ],
)
def test_wrong_sources_are_one_line(tiny, tmp_path, overrides: tuple[str, ...], kind: type, message: str):
    make_run(tmp_path / "run", tiny())
    with pytest.raises(kind) as error:
        start(tiny(*(o.replace("RUN", str(tmp_path / "run")) for o in overrides)))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_another_normalisation_is_told(tiny, tmp_path):
    make_run(tmp_path / "run", tiny())
    _, report = start(tiny(f"init_from={tmp_path / 'run'}", "data.mean=(0.5,)"))
    assert report.notes == ("config.data.mean is (0.5,), the source was trained with (0.0,)",)


def test_a_run_starts_there_once_and_goes_on_without_the_source(tiny, tmp_path):
    """Frozen, thawed in the middle, pulled to the start: cut in two, bit for bit the whole."""
    params = make_run(tmp_path / "source", tiny(), FOUR)
    flags = (
        f"init_from={tmp_path / 'source'}", "freeze=hidden1", "unfreeze=hidden1/kernel=0.5", "optimizer.l2_sp=0.1",
        "optimizer.factors=hidden1=0.5", "optimizer.name=adam", "train.keep_checkpoints=3",
    )  # fmt: skip
    train_run(tiny(*flags), str(tmp_path / "whole"))
    report = json.loads((tmp_path / "whole" / START_FILE).read_text())
    assert report["counts"] == {"loaded": 2, "replaced": 2, "renamed": 0, "left": 0}
    early, late = (load_network(str(tmp_path / "whole"), step).params["hidden1"] for step in ("2", "6"))
    assert same(early["kernel"], params["hidden1"]["kernel"])  # half an epoch of 6 steps: from step 3 on
    assert not same(late["kernel"], params["hidden1"]["kernel"])
    assert same(late["bias"], params["hidden1"]["bias"])

    train_run(tiny(*flags, "train.num_steps=4"), str(tmp_path / "part"))
    shutil.rmtree(tmp_path / "source")
    train_run(tiny(*flags), str(tmp_path / "part"), accept_changes=True)
    one, other = (load_network(str(tmp_path / name)).params for name in ("whole", "part"))
    assert jax.tree.all(jax.tree.map(same, one, other))
