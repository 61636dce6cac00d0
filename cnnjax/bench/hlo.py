# SPDX-License-Identifier: Apache-2.0
"""A compiled program's text as a graph: what each instruction computes, from what, and which source it comes from."""

import re
from collections import Counter
from typing import NamedTuple

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_START = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_NAMES = re.compile(r"%([\w.\-]+)")
_DIMENSIONS = re.compile(r"\[([\d,]*)\]")


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      name: unique in the program.
      opcode: "fusion", "convolution", ...
      shape: of the result, or of the first part of it.
      operands: names of the instructions that it reads.
      called: computations that it runs.
      op_name: where it comes from in the source, JAX's name stack; "" when the compiler made it.
    """

    name: str
    opcode: str
    shape: tuple[int, ...]
    operands: tuple[str, ...]
    called: tuple[str, ...]
    op_name: str


class Program(NamedTuple):
    """Computations by name, each a list in the order of execution; `entry` is the name of the first to run."""

    computations: dict[str, list[Instruction]]
    entry: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the program puts out, in order."""
        root = self.computations[self.entry][-1]
        return root.operands if root.opcode == "tuple" else (root.name,)

    def origin(self, instruction: Instruction) -> str:
        """Its op_name; where it has none, the commonest of the computations that it runs."""
        if instruction.op_name:
            return instruction.op_name
        inner = [i for name in instruction.called for i in self.computations.get(name, ())]
        names = Counter(i.op_name for i in inner if i.op_name)
        return names.most_common(1)[0][0] if names else ""


def parse(text: str) -> Program:
    """The program of `compiled.as_text()`."""
    computations: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    entry, root = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        elif start := _START.match(line):
            instruction = _instruction(start[2], line[start.end() :])
            if start[1] and not header:
                root = instruction
            current.append(instruction)
        elif line.startswith("}") and root is not None:
            current.remove(root)
            current.append(root)  # last, wherever it stood
            root = None
    return Program(computations, entry)


def _instruction(name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    close = _closing("(" + rest, 0) - 1
    operands, attributes = rest[:close], rest[close:]
    dimensions = _DIMENSIONS.search(kind)
    shape = tuple(int(size) for size in dimensions[1].split(",") if size) if dimensions else ()
    called = tuple(
        called.strip().lstrip("%") for one, many in _CALLED.findall(attributes) for called in (one or many).split(",")
    )
    op_name = _OP_NAME.search(attributes)
    return Instruction(
        name, opcode.strip(), shape, tuple(_NAMES.findall(operands)), called, op_name[1] if op_name else ""
    )


def _closing(text: str, start: int) -> int:
    """The index of the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i
    return len(text) - 1
