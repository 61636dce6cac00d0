# SPDX-License-Identifier: Apache-2.0
"""Our networks against the originals, run by PyTorch with the same random weights and running statistics."""

import jax
import numpy as np
import pytest

from cnnjax.commands import main
from cnnjax.errors import RunError, UsageError
from cnnjax.layers.scan import unstack
from cnnjax.weights import parity
from cnnjax.weights.convert import check
from cnnjax.weights.fit import fit, load, unscanned
from cnnjax.weights.names import Place
from cnnjax.weights.original import load_original, make_original
from cnnjax.weights.parity import Comparison
from cnnjax.weights.read import Weights


def row(ours="conv1", absolute: float | None = 1e-6, relative: float | None = 1e-6):
    return Comparison(ours, ours, absolute, relative, ((1, 2), (1, 2)))


def test_the_first_layer_that_differs_is_named():
    parity.check([row("conv1"), row("bn1", 1.0, 9e-5), row("logits", 9e-5, 1e-2)])
    with pytest.raises(RunError, match=r"first layer that differs from bn1 .* is bn1: by 0\.5 \(0\.1 of"):
        parity.check([row("conv1"), row("bn1", 0.5, 0.1), row("conv2", 3.0, 2.0)])
    with pytest.raises(RunError, match="is logits"):
        parity.check([row("conv1"), row("logits", 2e-4, 3e-4)])
    with pytest.raises(RunError, match=r"conv1, \(1, 2\)|is conv1: \(1, 2\)"):
        parity.check([row("conv1", None, None)])
    with pytest.raises(RunError):
        parity.check([row("conv1", float("nan"), float("nan"))])
    text = parity.table([row("conv1"), row("bn1", 0.5, 0.1)])
    assert text.splitlines()[-1].split() == ["bn1", "bn1", "1x2", "5.0e-01", "1.0e-01", "differs"]


def test_an_original_that_is_none():
    for spec in ("resnet18", "keras:resnet", ":x"):
        with pytest.raises(UsageError, match="torchvision:NAME, timm:NAME or"):
            make_original(spec, 10)


def compared(tiny, twins, module, size, names, spec="", **arguments):
    """The rows of the comparison of `config.model` = arguments with `module`, its weights randomised."""
    config = tiny(*(f"model.{key}={value}" for key, value in arguments.items()))
    stored = twins.tensors(twins.randomise(module))
    weights = Weights(stored, spec, None, "", "pytorch", ())  # pyright: ignore[reportArgumentType]
    fitted = fit(config, weights, [(size, size, 3)], names=names)
    check(fitted.rows)
    params, model_state = load(fitted, weights.tensors, jax.random.key(0))
    image = np.random.default_rng(1).standard_normal((1, size, size, 3), np.float32)
    model = unscanned(config, fitted)
    return parity.compare(model, unstack(params), unstack(model_state), module, fitted.found, image)


def agree(rows, num_layers):
    parity.check(rows)
    assert len(rows) == num_layers + 1
    print(f"logits differ by {rows[-1].absolute:.1e}, {rows[-1].relative:.1e} of the largest")
    assert rows[-1].ours == "logits" and rows[-1].absolute <= 1e-4


def test_cifar_resnet(tiny, twins):
    pytest.importorskip("torch")
    rows = compared(tiny, twins, twins.cifar_resnet(3), 32, "akamaster", name="resnet_cifar", depth=20)
    agree(rows, 19 + 19 + 1)
    assert [row.theirs for row in rows[:4]] == ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1"]
    rows = compared(tiny, twins, twins.cifar_resnet(3), 33, "", name="resnet_cifar", depth=20, scan="true")
    agree(rows, 19 + 19 + 1)


# AlexNet 5 + 3 layers with weights, VGG 8 + 3 and 13 + 3 (13 more with BatchNorm), ResNets convolution and
# BatchNorm, projections among them, and the output.
NETWORKS = {
    "alexnet": ("torchvision:alexnet", 8, {"name": "alexnet_one_tower"}),
    "vgg11": ("torchvision:vgg11", 11, {"name": "vgg", "variant": "A"}),
    "vgg16": ("torchvision:vgg16", 16, {"name": "vgg", "variant": "D"}),
    "vgg16_bn": ("torchvision:vgg16_bn", 29, {"name": "vgg", "variant": "D", "batch_norm": "true"}),
    "resnet18": ("torchvision:resnet18", 41, {"name": "resnet", "depth": 18}),
    "resnet50": ("torchvision:resnet50", 107, {"name": "resnet", "depth": 50}),
    "timm resnet18": ("timm:resnet18", 41, {"name": "resnet", "depth": 18}),
    "timm resnet50": ("timm:resnet50", 107, {"name": "resnet", "depth": 50}),
    "timm vgg11": ("timm:vgg11", 11, {"name": "vgg", "variant": "A"}),
    "timm vgg16_bn": ("timm:vgg16_bn", 29, {"name": "vgg", "variant": "D", "batch_norm": "true"}),
}


def large(tiny, twins, network, size):
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    spec, num_layers, arguments = NETWORKS[network]
    library = spec.partition(":")[0]
    agree(compared(tiny, twins, make_original(spec, 1000), size, library, **arguments), num_layers)


def test_resnet18_at_an_odd_size(tiny, twins):
    large(tiny, twins, "timm resnet18", 75)


@pytest.mark.slow
@pytest.mark.parametrize("size", [187, 224])
@pytest.mark.parametrize("network", NETWORKS)
def test_large_networks(tiny, twins, network, size):
    large(tiny, twins, network, size)


def test_another_variant_is_found_out_at_the_layer_where_it_begins(tiny, twins):
    pytest.importorskip("torchvision")
    rows = compared(
        tiny, twins, make_original("torchvision:resnet50", 10), 33, "", name="resnet", depth=50, version="v1"
    )
    with pytest.raises(RunError, match=r"first layer that differs is stage2\.block1\.conv1: \(1, 5, 5, 128\)"):
        parity.check(rows)


def test_what_the_original_is_wrong_about(tmp_path):
    pytest.importorskip("torchvision")
    with pytest.raises(UsageError, match=r"'resnet81'.*resnet18"):
        make_original("torchvision:resnet81", 10)
    with pytest.raises(UsageError, match="no file"):
        make_original(f"{tmp_path}/gone.py:net", 10)
    mine = tmp_path / "mine.py"
    mine.write_text("import torch\n\ndef net():\n    return torch.nn.Linear(2, 3)\n\ndef none():\n    return 3\n")
    with pytest.raises(UsageError, match="returns a int"):
        make_original(f"{mine}:none", 10)
    with pytest.raises(UsageError, match="did you mean 'net'"):
        make_original(f"{mine}:nte", 10)
    with pytest.raises(RunError, match=r"does not take the weights: .*bias"):
        load_original(make_original(f"{mine}:net", 10), {"weight": np.zeros((3, 2), np.float32)}, "mine")


def test_only_layers_that_both_have_are_compared(tiny):
    torch = pytest.importorskip("torch")
    from cnnjax.models import get_model

    model = get_model("logistic", {}, num_classes=3)
    params, _ = model.init(jax.random.key(0), jax.numpy.zeros((1, 2, 2, 1)))
    dense = torch.nn.Linear(4, 3)
    name, layer = next(iter(params.items()))
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(np.array(layer["kernel"]).T))
        dense.bias.copy_(torch.from_numpy(np.array(layer["bias"])))
    original = torch.nn.Sequential(torch.nn.Flatten(), dense)
    found = {f"params.{name}.kernel": Place("1.weight", None)}  # pyright: ignore[reportArgumentType]
    rows = parity.compare(model, params, {}, original, found, np.ones((2, 2, 2, 1), np.float32))
    parity.check(rows)
    assert [row.theirs for row in rows] == ["1", "output"]


def test_the_whole_way_from_a_repository_file_to_predictions(tmp_path, twins, capsys):
    pytest.importorskip("torch")
    from PIL import Image

    twin, path, workdir = twins.cifar_resnet(1), tmp_path / "resnet8.th", tmp_path / "run"
    twins.save_as_repository(twin, path)
    (tmp_path / "twin.py").write_text(
        f"import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('twins', {str(twins.__file__)!r})\n"
        "twins = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(twins)\n\n"
        "def net():\n    return twins.cifar_resnet(1)\n"
    )
    command = [
        "import-weights", str(path), "--config=experiments/default.py", f"--workdir={workdir}", "--input=32x32x3",
        "--config.model.name=resnet_cifar", "--config.model.depth=8", "--config.data.source=folder:nowhere",
        "--config.data.mean=(0.5,0.4,0.3)", "--config.data.std=(0.2,0.2,0.1)", f"--original={tmp_path}/twin.py:net",
    ]  # fmt: skip
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "names as in akamaster" in out and "'module.'" in out and "'state_dict'" in out and "best_prec1" in out
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "picture.png")
    assert main(["predict", f"--workdir={workdir}", str(tmp_path / "picture.png"), "--top=1", "--json"]) == 0
    import json

    import torch  # pyright: ignore[reportMissingImports]

    normal = (image / 255.0 - (0.5, 0.4, 0.3)) / (0.2, 0.2, 0.1)
    with torch.no_grad():
        logits = twin(torch.from_numpy(normal.transpose(2, 0, 1)[None].astype(np.float32)))
    top = json.loads(capsys.readouterr().out)["top"][0]
    assert top["label"] == f"class {int(logits.argmax())}"
    assert top["probability"] == pytest.approx(float(logits.softmax(1).max()), abs=1e-5)
