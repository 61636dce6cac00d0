# SPDX-License-Identifier: Apache-2.0
"""From an instruction of the compiler's to what a researcher calls it: "stage1/block2/conv1 kernel gradient".

The source of most instructions is in their metadata. What a training step puts out tells the rest: an instruction
from which one layer's parameters follow and no other's belongs to that layer's kernel gradient.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax

from cnnjax.bench.hlo import Instruction, Program
from cnnjax.types import PyTree

FORWARD, GRADIENT, KERNEL_GRADIENT, INPUT_GRADIENT = "forward", "gradient", "kernel gradient", "input gradient"
_SEGMENT = re.compile(r"/(?![^(]*\))")  # a slash outside of brackets
_LOOPS = ("while", "body", "cond", "closed_call")
_STEPS_TO_A_NAME = 6  # along the graph, from an instruction without a name


class Label(NamedTuple):
    """What an instruction belongs to: a layer's path and a pass, or a part of the step and ""."""

    layer: str
    part: str

    def __str__(self) -> str:
        return f"{self.layer} {self.part}".rstrip()


OPTIMIZER, INPUT, LOSS, OTHER = (Label(n, "") for n in ("optimizer", "input and augmentation", "loss", "other"))


def label_instructions(program: Program, params: PyTree, state_paths: Iterable[str]) -> dict[str, Label]:
    """The label of every instruction of the program, by name.

    Args:
      program: a training step or a forward pass, one step a call.
      params: the network's, for the names and kernel shapes of its layers.
      state_paths: `jax.tree_util.keystr` of the leaves that the program puts out first, in order; () for a forward
        pass.
    """
    kernels = layer_kernels(params)
    labels = _Labels(program, kernels, list(state_paths))
    return labels.all()


def layer_kernels(params: PyTree) -> dict[str, tuple[int, ...]]:
    """Shapes of the largest array of every layer, by its path: "stage1/block2/conv1"."""
    kernels: dict[str, tuple[int, ...]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        layer = "/".join(_plain(key) for key in path[:-1]) or "network"
        if math.prod(leaf.shape) >= math.prod(kernels.get(layer, (0,))):
            kernels[layer] = tuple(leaf.shape)
    return kernels


def _plain(key: Any) -> str:
    return jax.tree_util.keystr((key,), simple=True)


class _Labels:
    def __init__(self, program: Program, kernels: Mapping[str, tuple[int, ...]], state_paths: list[str]):
        self.program, self.kernels = program, kernels
        self.paths = sorted(kernels, key=len, reverse=True)
        entry = program.computations[program.entry]
        self.users: dict[str, list[Instruction]] = {}
        for instruction in entry:
            for operand in instruction.operands:
                self.users.setdefault(operand, []).append(instruction)
        self.entry = {instruction.name: instruction for instruction in entry}
        self.reaches = self._reaches(entry, state_paths)

    def all(self) -> dict[str, Label]:
        found: dict[str, Label] = {}
        for instruction in self.entry.values():
            if label := self._named(instruction):
                found[instruction.name] = label
        for instruction in self.entry.values():
            if instruction.name not in found:
                found[instruction.name] = self._by_neighbours(instruction, found)
        for instruction in self.entry.values():
            self._inside(instruction, found[instruction.name], found)
        return found

    def _inside(self, caller: Instruction, label: Label, found: dict[str, Label]) -> None:
        """Instructions of loops and branches: their own layer, the pass of their caller where they have none."""
        for name in caller.called:
            for instruction in self.program.computations.get(name, ()):
                if instruction.name in found:
                    continue
                own = self._named(instruction)
                found[instruction.name] = label if own is None or own.layer == label.layer else own
                self._inside(instruction, found[instruction.name], found)

    def _reaches(self, entry: list[Instruction], state_paths: list[str]) -> dict[str, frozenset[str]]:
        """For every instruction the layers whose parameters, or their averages, follow from it."""
        reaches: dict[str, set[str]] = {instruction.name: set() for instruction in entry}
        for path, output in zip(state_paths, self.program.outputs, strict=False):
            layer = self._layer(_keys(path))
            if layer and "model_state" not in path:
                reaches[output].add(layer)
        for instruction in reversed(entry):
            if instruction.opcode == "tuple" and instruction is entry[-1]:
                continue
            for operand in instruction.operands:
                if operand in reaches:
                    reaches[operand] |= reaches[instruction.name]
        return {name: frozenset(layers) for name, layers in reaches.items()}

    def _named(self, instruction: Instruction) -> Label | None:
        origin = self.program.origin(instruction)
        scopes = [segment for segment in _SEGMENT.split(origin) if segment]
        if not scopes:
            return None
        layer = self._layer(scopes)
        if "transpose(" in origin and ("jvp(" in origin or layer):
            return self._gradient(instruction, layer or _scope(scopes))
        if layer:
            return Label(layer, FORWARD)
        if "augment" in origin or "prepare" in origin or instruction.opcode == "gather":
            return INPUT
        if "jvp(" in origin:
            inside = _scope(scopes)
            return Label(inside, FORWARD) if inside else LOSS
        reached = self.reaches.get(instruction.name, frozenset())
        if len(reached) == 1 and instruction.shape:
            return OPTIMIZER
        return None

    def _gradient(self, instruction: Instruction, layer: str) -> Label:
        if not layer:
            return Label("loss", GRADIENT)
        kernel = self.kernels.get(layer, ())
        if len(kernel) < 2:
            return Label(layer, GRADIENT)
        reached = self.reaches.get(instruction.name)
        alone = reached == frozenset((layer,)) or _same_size(instruction.shape, kernel)
        return Label(layer, KERNEL_GRADIENT if alone else INPUT_GRADIENT)

    def _by_neighbours(self, instruction: Instruction, found: Mapping[str, Label]) -> Label:
        """Of an instruction that the compiler made: what it is for."""
        reached = self.reaches.get(instruction.name, frozenset())
        if len(reached) == 1:
            (layer,) = reached
            return Label(layer, KERNEL_GRADIENT if len(self.kernels[layer]) > 1 else GRADIENT)
        for follow in (self._readers, self._read):
            names = [instruction.name]
            for _ in range(_STEPS_TO_A_NAME):
                names = [name for one in names for name in follow(one)]
                for name in names:
                    if name in found:
                        return found[name]
        return OTHER

    def _readers(self, name: str) -> list[str]:
        return [user.name for user in self.users.get(name, ())][:4]

    def _read(self, name: str) -> list[str]:
        return list(self.entry[name].operands[:4]) if name in self.entry else []

    def _layer(self, scopes: list[str]) -> str:
        """The longest path of a layer that stands in `scopes`, else ""."""
        text = "/" + "/".join(_unwrapped(scope) for scope in scopes) + "/"
        return next((path for path in self.paths if f"/{path}/" in text), "")


def _keys(path: str) -> list[str]:
    """The keys of a leaf's path as `keystr` writes it: ".params['stage1']['conv']['kernel']"."""
    return re.findall(r"\['([^']*)'\]", path)


def _unwrapped(scope: str) -> str:
    """A scope without the transformations around it: transpose(jvp(conv1)) is conv1."""
    while (inner := re.fullmatch(r"\w+\((.*)\)", scope)) is not None:
        scope = inner[1]
    return scope


def _scope(scopes: list[str]) -> str:
    """The modules of a scope without the network's own name and without the primitive at the end."""
    start = next((i for i, scope in enumerate(scopes) if "jvp(" in scope), 0)
    inside = [_unwrapped(scope) for scope in scopes[start + 1 : -1]]
    return "/".join(name for name in inside if name and "." not in name and name not in _LOOPS)


def _same_size(shape: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether a result holds a kernel, in whatever order of axes."""
    return sorted(n for n in shape if n > 1) == sorted(n for n in kernel if n > 1)
