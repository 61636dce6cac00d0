# SPDX-License-Identifier: Apache-2.0
"""Which steps of a traced network are layers by themselves: convolution, matrix product, pooling, flattening."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from cnnjax.inspect.leaves import Use, on_image_path
from cnnjax.inspect.steps import VIEWS, Step, Value

_Users = Mapping[int, list[Step]]


def layer_types(uses: Sequence[Use]) -> list[str | None]:
    """For each step the type of the layer that it opens, or None."""
    users: dict[int, list[Step]] = defaultdict(list)
    for step, _ in uses:
        for value in step.inputs:
            users[value.id].append(step)
    squares = {step.outputs[0].id for step, _ in uses if _is_square(step)}
    spread = {step.outputs[0].id for step, _ in uses if step.primitive == "broadcast_in_dim"}

    def layer_type(use: Use) -> str | None:
        step = use.step
        if step.primitive == "conv_general_dilated":
            return "conv"
        if step.primitive == "dot_general":
            return "dense" if any(not on_image_path(value) for value in step.inputs) and use.parts else "dot"
        if step.primitive == "reshape":
            return "flatten" if _is_flattening(step) and step.inputs[0].id not in spread else None
        where = _pooled(step)
        if where is None or step.inputs[0].id in squares or _is_centring(step, users):
            return None
        what = {"max": "max", "min": "min", "sum": "avg" if _is_divided(step.outputs[0], users) else "sum"}
        operation = what.get(step.primitive.rpartition("_")[2])
        return where + (f"{operation}_pool" if operation else "pool")

    return [layer_type(use) for use in uses]


def _pooled(step: Step) -> str | None:
    """What is reduced, as a prefix: nothing for windows of a map, "global_" for all of it; None for anything else."""
    shape, name = step.inputs[0].shape, step.primitive
    if name.startswith("reduce_window"):
        window = tuple(step.params["window_dimensions"])
        channels_last = window[0] == window[-1] == 1 and max(window) > 1
        channels_first = window[:2] == (1, 1) and min(window[2:], default=1) > 1
        return "" if channels_last or channels_first else None
    if name in ("reduce_max", "reduce_min", "reduce_sum"):
        axes = tuple(step.params["axes"])
        if len(shape) == 4 and axes in ((1, 2), (2, 3)):
            return "global_"
        if len(shape) == 6 and axes == (2, 4):  # [B,H/a,a,W/b,b,C]: windows by reshaping
            return ""
    return None


def _is_flattening(step: Step) -> bool:
    before, after = step.inputs[0].shape, step.outputs[0].shape
    return len(before) > 2 and len(after) == 2 and before[:1] == after[:1]


def _is_square(step: Step) -> bool:
    twice = step.primitive == "mul" and step.inputs[0].id == step.inputs[1].id
    return twice or step.primitive == "square" or (step.primitive == "integer_pow" and step.params["y"] == 2)


def _is_centring(step: Step, users: _Users) -> bool:
    """Whether the result is a mean that is then taken from every point of the map."""
    shape = step.inputs[0].shape
    return any(user.primitive == "sub" and user.outputs[0].shape == shape for user in _scaled(step.outputs[0], users))


def _is_divided(value: Value, users: _Users) -> bool:
    return any(user.primitive in ("div", "mul") and _by_constant(user) for user in _scaled(value, users))


def _scaled(value: Value, users: _Users) -> Iterator[Step]:
    """The steps that take `value`, also reshaped or times a constant."""
    for user in users.get(value.id, ()):
        yield user
        if user.primitive in VIEWS or (user.primitive in ("div", "mul") and _by_constant(user)):
            yield from _scaled(user.outputs[0], users)


def _by_constant(step: Step) -> bool:
    return any(not value.arguments for value in step.inputs)
