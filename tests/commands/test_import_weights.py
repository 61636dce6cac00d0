# SPDX-License-Identifier: Apache-2.0
"""`run.py import-weights` as a user types it, and what the other commands make of the workdir."""

import hashlib
import json
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cnnjax.commands import main
from cnnjax.experiment import load_network
from cnnjax.models import get_model
from cnnjax.weights import export_safetensors
from cnnjax.workdir import dataset_info

CONFIG = [
    "--config=experiments/default.py",
    "--config.model.name=resnet_cifar",
    "--config.model.depth=8",
    "--config.data.source=synthetic",
    "--config.data.synthetic.num_examples=32",
    "--config.data.synthetic.num_classes=3",
    "--config.data.synthetic.image_shape=(8,8,3)",
    "--config.data.batch_size=8",
    "--config.data.eval_batch_size=8",
    "--config.train.num_steps=2",
    "--config.train.ema_decay=0.5",
    "--config.optimizer.name=adam",
]


@pytest.fixture
def resnet8(tmp_path):
    """A file of a small network under PyTorch's names, and its trees."""
    model = get_model("resnet_cifar", {"depth": 8}, num_classes=3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32))
    rng = np.random.default_rng(0)
    params, state = jax.tree.map(lambda x: rng.uniform(0.05, 0.1, x.shape).astype(x.dtype), shapes)
    path = tmp_path / "resnet8.safetensors"
    export_safetensors(path, model_name="resnet_cifar", params=params, model_state=state, names="akamaster")
    return path, params, state


def test_the_workdir_is_one_that_the_other_commands_take(resnet8, tmp_path, capsys):
    path, params, state = resnet8
    workdir = tmp_path / "run"
    assert main(["import-weights", str(path), f"--workdir={workdir}", *CONFIG]) == 0
    out = capsys.readouterr().out
    assert "params.stem_conv.kernel" in out and "conv1.weight" in out and "16x3x3x3" in out
    assert out.splitlines()[-1].endswith("akamaster, to " + f"{workdir}: resnet_cifar, 3 classes, images 8x8x3")
    network = load_network(str(workdir))
    assert network.step == 0
    jax.tree.map(np.testing.assert_array_equal, (network.params, network.model_state), (params, state))
    assert dataset_info(workdir).image_shape == (8, 8, 3) and len(dataset_info(workdir).label_names) == 3
    origin = json.loads((workdir / "weights.json").read_text())
    assert origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and origin["names"] == "akamaster"
    assert {row["status"] for row in origin["tensors"]} == {"taken", "transposed"}
    assert (workdir / "environment.json").is_file()
    assert main(["evaluate", f"--workdir={workdir}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 0
    assert main(["summary", f"--workdir={workdir}"]) == 0
    # Training goes on from the weights.
    assert main(["train", f"--workdir={workdir}", *CONFIG]) == 0
    assert load_network(str(workdir)).step == 2
    # A workdir that holds a run is not overwritten.
    assert main(["import-weights", str(path), f"--workdir={workdir}", *CONFIG]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_json_and_flags(resnet8, tmp_path, capsys):
    path, _, _ = resnet8
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    workdir = tmp_path / "run"
    flags = ["--json", "--input=12x10x3", f"--labels={tmp_path}/labels.txt", "--names=akamaster"]
    assert main(["import-weights", str(path), f"--workdir={workdir}", *CONFIG, *flags]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["names"] == "akamaster" and document["num_classes"] == 3
    info = dataset_info(workdir)
    assert info.label_names == ("red", "green", "blue") and info.image_shape == (12, 10, 3)
    assert load_network(str(workdir)).config.data.image_size == (12, 10)


def test_what_does_not_fit_is_told_and_nothing_written(resnet8, tmp_path, capsys):
    path, params, _ = resnet8
    workdir = tmp_path / "run"

    def fails(*flags, source=path, code=1):
        capsys.readouterr()
        assert main(["import-weights", str(source), f"--workdir={workdir}", *CONFIG, *flags]) == code
        assert not workdir.exists()
        return capsys.readouterr().err

    tensors = load_file(path)
    part = tmp_path / "part.safetensors"
    save_file({name: t for name, t in tensors.items() if name != "bn1.bias"} | {"extra": np.zeros(2)}, part)
    text = fails(source=part)
    assert text.splitlines()[-1].startswith("error: the weights do not fit the network: 1 missing, 1 unexpected of")
    assert any("bn1.bias" in line and "missing" in line for line in text.splitlines())
    text = fails("--config.model.num_classes=4")
    assert "number of classes" in text.splitlines()[-1]
    assert "unknown convention" in fails("--names=torchvison", code=2)
    assert "no workdir given" in one_line(capsys, ["import-weights", str(path), *CONFIG])
    assert "--labels has 2 names, the weights are for 3" in fails(f"--labels={labels(tmp_path, 2)}", code=2)
    assert "neither a safetensors" in fails(source=labels(tmp_path, 2))

    allowed = ["--allow=bn1.bias", "--allow=extra"]
    assert main(["import-weights", str(part), f"--workdir={workdir}", *CONFIG, *allowed]) == 0
    out = capsys.readouterr().out
    assert "1 initial, 1 left out" in out
    stored = load_network(str(workdir)).params
    np.testing.assert_array_equal(stored["stem_bn"]["bias"], np.zeros(16))
    np.testing.assert_array_equal(stored["stem_bn"]["scale"], params["stem_bn"]["scale"])


def labels(folder, count):
    path = folder / f"{count}.txt"
    path.write_text("".join(f"name {i}\n" for i in range(count)))
    return path


def one_line(capsys, argv):
    capsys.readouterr()
    assert main(argv) == 2
    return capsys.readouterr().err


def test_a_hyphen_in_a_commands_name(capsys):
    assert main(["help"]) == 0
    assert "  import-weights  Make a run of weights from elsewhere" in capsys.readouterr().out
    assert "did you mean 'import-weights'" in one_line(capsys, ["import_weights", "x"])


def test_version_v1_is_doubted_where_nothing_tells_it_apart():
    from types import SimpleNamespace

    from ml_collections import ConfigDict

    from cnnjax.commands.import_weights import _doubts

    v1, v1_5 = (ConfigDict({"model": {"name": "resnet", "version": version}}) for version in ("v1", "v1.5"))
    torchvision: Any = SimpleNamespace(names="torchvision")
    assert "mostly of version v1.5" in _doubts(v1, torchvision, compared=False)[0]
    assert _doubts(v1, torchvision, compared=True) == _doubts(v1_5, torchvision, compared=False) == []
