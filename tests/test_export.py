# SPDX-License-Identifier: Apache-2.0
"""What is exported is read back in a process that never sees this project, and gives the live network's numbers."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax import export
from cnnjax.commands import export as command
from cnnjax.commands import main
from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import load_network
from cnnjax.predict import make_infer, make_predict
from cnnjax.training_run import train_run

CNN = ("model.name=simple_cnn", "model.widths=(4,)", "model.dense=6", "data.mean=(0.4,)", "data.std=(0.3,)")
AUTOENCODER = ("model.name=autoencoder", "model.latent=2", "model.widths=(2,)", "task.name=reconstruction")


@pytest.fixture
def trained(tiny, tmp_path: Path) -> Path:
    workdir = tmp_path / "run"
    train_run(tiny(*CNN, "train.num_steps=2"), str(workdir))
    return workdir


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["export", *argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_folder_explains_itself_and_runs_by_the_five_lines_of_the_help(trained: Path, tmp_path: Path, capsys):
    out = tmp_path / "deep" / "out"
    code, printed, _ = run(capsys, f"--workdir={trained}", f"--out={out}")
    assert code == 0 and "largest difference 0 at batch size 1" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "export.json", "labels.txt", "network.stablehlo", "weights.safetensors",
    ]  # fmt: skip
    assert all(str(path) in printed for path in out.iterdir())
    description = json.loads((out / "export.json").read_text())
    assert description["input"]["shape"] == ["batch", 8, 8, 1] and description["normalisation"]["mean"] == [0.4]
    assert description["outputs"]["probabilities"] == {"dtype": "float32", "shape": ["batch", 3]}
    assert description["platforms"] == ["cpu", "cuda", "tpu"] and description["step"] == 2
    assert (out / "labels.txt").read_text().splitlines() == ["class 0", "class 1", "class 2"]

    image = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 1), np.uint8)
    np.save(tmp_path / "image.npy", image)
    found = re.search(r"\n((?:    .*\n){5})", command.__doc__ or "")
    assert found is not None
    lines = textwrap.dedent(found[1]).replace("DIR", str(out))
    lines = lines.replace("np.zeros((1, HEIGHT, WIDTH, CHANNELS), np.uint8)", "np.load('image.npy')")
    lines += "import sys; assert not [name for name in sys.modules if name.startswith('cnnjax')]\n"
    lines += "np.save('out.npy', outputs['probabilities'])\n"
    subprocess.run([sys.executable, "-I", "-c", lines], check=True, cwd=tmp_path, timeout=300)
    expected = make_predict(load_network(str(trained)), 5)(image)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5, atol=1e-7)
    assert np.ptp(expected, axis=0).max() > 0


def test_an_autoencoder_gives_pictures_and_latents(tiny, tmp_path: Path, capsys):
    train_run(tiny(*AUTOENCODER, "train.num_steps=2"), str(tmp_path / "run"))
    code, printed, _ = run(capsys, f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'out'}", "--platforms=cpu")
    assert code == 0 and "largest difference" in printed and not (tmp_path / "out" / "labels.txt").exists()
    outputs = json.loads((tmp_path / "out" / "export.json").read_text())["outputs"]
    assert {name: value["shape"] for name, value in outputs.items()} == {
        "recon": ["batch", 8, 8, 1], "latent": ["batch", 2],
    }  # fmt: skip


def test_for_platforms_that_are_not_here_nothing_is_claimed(trained: Path, tmp_path: Path, capsys):
    code, printed, _ = run(capsys, f"--workdir={trained}", f"--out={tmp_path / 'out'}", "--platforms=tpu")
    assert code == 0 and "not compared" in printed and "difference" not in printed


def test_weights_go_out_as_safetensors(trained: Path, tmp_path: Path, capsys):
    from safetensors.numpy import load_file

    code, _, _ = run(capsys, f"--workdir={trained}", f"--out={tmp_path / 'out'}", "--format=safetensors")
    assert code == 0
    network, arrays = load_network(str(trained)), load_file(tmp_path / "out" / "model.safetensors")
    assert sum(array.size for array in arrays.values()) == sum(leaf.size for leaf in jax.tree.leaves(network.params))


def test_a_difference_is_an_error_and_leaves_nothing(trained: Path, tmp_path: Path, monkeypatch, capsys):
    def other(config, model, num_classes):
        infer = make_infer(config, model, num_classes)
        return lambda *args: {name: value + 1e-3 for name, value in infer(*args).items()}

    call = export.make_call(load_network(str(trained)))
    monkeypatch.setattr(export, "make_call", lambda network: call)
    monkeypatch.setattr(export, "make_infer", other)
    code, out, err = run(capsys, f"--workdir={trained}", f"--out={tmp_path / 'out'}")
    assert code == 1 and out == "" and re.search(r"the exported network's \w+ differ from the live ones by 0.001", err)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_network_of_one_batch_size_is_one_line(tiny, tmp_path: Path):
    (tmp_path / "net.py").write_text(
        "import jax.numpy as jnp\n"
        "from cnnjax.types import Model\n"
        "def net(*, num_classes):\n"
        "    def apply(params, model_state, image, *, train, key=None):\n"
        "        rows = jnp.stack([x.sum() for x in image])\n"
        "        return {'logits': rows[:, None] * params['w'][None]}, model_state\n"
        "    return Model(lambda key, image: ({'w': jnp.ones(num_classes)}, {}), apply)\n"
    )
    train_run(tiny(f"model.name={tmp_path}/net.py:net", "train.num_steps=2"), str(tmp_path / "run"))
    with (
        pytest.raises(RunError, match="cannot be exported for a batch of any size") as error,
        export.new_folder(tmp_path / "out") as folder,
    ):
        export.export_stablehlo(load_network(str(tmp_path / "run")), folder, ("cpu",))
    assert "\n" not in error.value.args[0] and not (tmp_path / "out").exists()


def test_what_is_there_stays(tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    for path in (tmp_path / "full", tmp_path / "full" / "file"):
        with pytest.raises(UsageError, match="exists already; give another --out"), export.new_folder(path):
            raise AssertionError
    with pytest.raises(RunError, match="cannot make the folder"), export.new_folder(tmp_path / "full" / "file" / "x"):
        raise AssertionError
    (tmp_path / "empty").mkdir()
    with export.new_folder(tmp_path / "empty") as folder:
        (folder / "a").write_text("")
    assert (tmp_path / "empty" / "a").exists() and (tmp_path / "full" / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--out={}/out"], 2, "no workdir given"),
        (["--workdir=/nowhere", "--out={}/out"], 1, "/nowhere holds no run"),
        (["--workdir=x"], 2, "required: --out"),
        (["--workdir=x", "--out={}/out", "--format=onnx"], 2, "invalid choice: 'onnx'"),
        (["--workdir=x", "--out={}/out", "--platforms=cpu,gpu"], 2, "unknown platform 'gpu'"),
        (["--workdir=x", "--out={}/out", "--platforms=cpu", "--format=safetensors"], 2, "--platforms is for"),
        (["--workdir=x", "--out={}/out", "--names=timm"], 2, "--names is for --format=safetensors"),
    ],
)
def test_wrong_usage_is_one_line_and_makes_nothing(tmp_path: Path, capsys, argv, code, message):
    got, out, err = run(capsys, *(word.format(tmp_path) for word in argv))
    assert got == code and message in err and out == "" and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
