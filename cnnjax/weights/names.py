# SPDX-License-Identifier: Apache-2.0
"""What the layers of ours are called elsewhere: torchvision, timm, and repositories of CIFAR networks.

A convention maps each of our layers ("stage1.block1.conv1") to a module of another code base and says how its kernel
lies there. Which conventions there are for a network is told by its layers' names alone, so a network of the user's
own with the same names has them too. The convention "native", our own dotted names, is there for every network.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import jax

from cnnjax.errors import UsageError, unknown
from cnnjax.types import ModelState, Params, PyTree
from cnnjax.weights.layout import Layout

NATIVE = "native"
NORM = {"scale": "weight", "mean": "running_mean", "var": "running_var"}  # of BatchNorm: our leaf, PyTorch's


class Module(NamedTuple):
    """A layer elsewhere.

    Attributes:
      name: its dotted name there.
      kernel: the layout of a dense kernel when it is not a plain one.
    """

    name: str
    kernel: Layout | None = None


class Place(NamedTuple):
    """Where an array of ours lies in a file."""

    name: str
    layout: Layout


Modules = dict[str, Module]
"""By our layer's name."""


def named_leaves(params: Params, model_state: ModelState) -> dict[str, Any]:
    """Every array by its native name: "params.stem_conv.kernel", "model_state.batch_stats.stem_bn.mean".

    Raises:
      UsageError: two arrays have the same name (a key with a dot in it).
    """
    leaves = {}
    for part, tree in (("params", params), ("model_state", model_state)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = ".".join((part, *(jax.tree_util.keystr((key,), simple=True) for key in path)))
            if name in leaves:
                raise UsageError(f"two arrays of the network are called {name}; rename one")
            leaves[name] = leaf
    return leaves


def with_leaves(like: PyTree, part: str, leaves: Mapping[str, Any]) -> PyTree:
    """The tree `like` ("params" or "model_state") with the arrays of `leaves` in it; the inverse of `named_leaves`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: leaves[".".join((part, *(jax.tree_util.keystr((key,), simple=True) for key in path)))], like
    )


def layer_names(leaves: Iterable[str]) -> list[str]:
    """The layers that hold arrays, "stage1.block1.conv1", each once."""
    return list(dict.fromkeys(_layer_and_leaf(name)[0] for name in leaves))


def conventions(leaves: Mapping[str, Any]) -> dict[str, Modules | None]:
    """The conventions that a network with these arrays (`named_leaves`) has; None stands for native names."""
    layers = layer_names(leaves)
    found: dict[str, Modules | None] = {}
    if all(_layer_and_leaf(name)[1] in ("kernel", "bias", *NORM) for name in leaves):
        for pattern, by_name in _FAMILIES:
            if layers and all(pattern.fullmatch(layer) for layer in layers):
                found |= {name: make(layers) for name, make in by_name.items()}
    return {**found, NATIVE: None}


def get_convention(leaves: Mapping[str, Any], name: str) -> Modules | None:
    """The convention `name` of a network.

    Raises:
      UsageError: the network has no such convention.
    """
    known = conventions(leaves)
    if name not in known:
        raise UsageError(f"{unknown('convention of names for this network:', name, known)}; set --names")
    return known[name]


def recognise(leaves: Mapping[str, Any], stored: Collection[str]) -> str:
    """The convention whose names the names `stored` in a file fit best; of equals the first.

    Raises:
      UsageError: none fits at all.
    """
    scores = {
        name: sum(place.name in stored for place in places(leaves, modules).values())
        for name, modules in conventions(leaves).items()
    }
    best = max(scores, key=lambda name: scores[name])
    if not scores[best]:
        examples = ", ".join(sorted(stored)[:3])
        wanted = next(iter(places(leaves, next(iter(conventions(leaves).values()))).values()), None)
        raise UsageError(
            f"no tensor in the file is called as in {', '.join(scores)}: it holds {examples or 'none'}, the network "
            f"wants {wanted.name if wanted else 'none'}, ...; give the config of the network that the file is for"
        )
    return best


def places(leaves: Mapping[str, Any], modules: Modules | None) -> dict[str, Place]:
    """Where each array (`named_leaves`) lies in a file of a convention (`conventions`; None: native)."""
    if modules is None:
        return {name: Place(name, Layout("same")) for name in leaves}
    found = {}
    for name, leaf in leaves.items():
        layer, kind = _layer_and_leaf(name)
        module, layout = modules[layer], Layout("same")
        if kind == "kernel":
            layout = Layout("conv") if len(leaf.shape) == 4 else module.kernel or Layout("dense")
        found[name] = Place(f"{module.name}.{'weight' if kind == 'kernel' else NORM.get(kind, kind)}", layout)
    return found


def _layer_and_leaf(name: str) -> tuple[str, str]:
    layer, _, leaf = name.rpartition(".")
    return layer.removeprefix("params.").removeprefix("model_state.batch_stats."), leaf


def _resnet(output: str, shortcut: str) -> Callable[[list[str]], Modules]:
    """ResNet modules; the stem is conv1 and bn1, stage s is layer{s}, counted from 1, its blocks from 0."""

    def translate(layer: str) -> str:
        if layer == "output":
            return output
        if layer.startswith("stem_"):
            return f"{layer.removeprefix('stem_')}1"
        stage, block, inner = layer.split(".")
        inner = {"shortcut_conv": f"{shortcut}.0", "shortcut_bn": f"{shortcut}.1"}.get(inner, inner)
        return f"layer{stage.removeprefix('stage')}.{int(block.removeprefix('block')) - 1}.{inner}"

    return lambda layers: {layer: Module(translate(layer)) for layer in layers}


def _vgg(dense: Modules) -> Callable[[list[str]], Modules]:
    """VGG modules; `features` is a list of convolution, BatchNorm if there is one, ReLU, and a pooling a stage."""

    def modules(layers: list[str]) -> Modules:
        named, index, stage = {}, 0, 1
        convs = sorted(tuple(map(int, layer.removeprefix("conv").split("_"))) for layer in layers if "conv" in layer)
        for at in convs:
            index += at[0] != stage  # the pooling between two stages
            stage, place = at[0], f"{at[0]}_{at[1]}"
            for layer in (f"conv{place}", f"bn{place}"):
                if layer in layers:
                    named[layer] = Module(f"features.{index}")
                    index += 1
            index += 1  # ReLU
        return named | dense

    return modules


def _alexnet(layers: list[str]) -> Modules:
    convs = {f"conv{i}": Module(f"features.{at}") for i, at in enumerate((0, 3, 6, 8, 10), start=1)}
    dense = {"fc6": Module("classifier.1", Layout("flatten", 6)), "fc7": Module("classifier.4")}
    return convs | dense | {"output": Module("classifier.6")}


_VGG_DENSE: Modules = {
    "fc6": Module("classifier.0", Layout("flatten", 7)),
    "fc7": Module("classifier.3"),
    "output": Module("classifier.6"),
}
_TIMM_VGG_DENSE: Modules = {
    "fc6": Module("pre_logits.fc1", Layout("window", 7)),
    "fc7": Module("pre_logits.fc2", Layout("window", 1)),
    "output": Module("head.fc"),
}
_IN_BLOCK = r"(conv\d+|bn\d+|shortcut_conv|shortcut_bn)"
_FAMILIES: tuple[tuple[re.Pattern[str], dict[str, Callable[[list[str]], Modules]]], ...] = (
    (
        re.compile(rf"stem_conv|stem_bn|output|stage\d+\.block\d+\.{_IN_BLOCK}"),
        {
            "torchvision": _resnet("fc", "downsample"),
            "timm": _resnet("fc", "downsample"),
            "chenyaofo": _resnet("fc", "downsample"),  # github.com/chenyaofo/pytorch-cifar-models
            "akamaster": _resnet("linear", "shortcut"),  # github.com/akamaster/pytorch_resnet_cifar10
        },
    ),
    (re.compile(r"(conv|bn)\d+_\d+|fc6|fc7|output"), {"torchvision": _vgg(_VGG_DENSE), "timm": _vgg(_TIMM_VGG_DENSE)}),
    (re.compile(r"conv[1-5]|fc6|fc7|output"), {"torchvision": _alexnet}),
)
"""By the names of all layers: the conventions, the usual one first."""
