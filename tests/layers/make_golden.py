# SPDX-License-Identifier: Apache-2.0
"""Random configurations of the layers and what PyTorch answers to them.

  python tests/layers/make_golden.py    (with the dependency group `peers`)

writes golden.json beside this file: the cases that the tests check where PyTorch is not installed. With PyTorch the
tests draw more of them and ask it directly.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).with_name("golden.json")
NUM_GOLDEN = 5  # of each layer
OPS = ("conv", "max_pool", "avg_pool", "max_unpool", "adaptive_avg", "adaptive_max", "lrn")


def draw_case(op: str, rng: np.random.Generator) -> dict[str, Any]:
    """A configuration: `op`, the shape NHWC of its input, and options in PyTorch's names; some do not fit."""

    def draw(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    def draw_pair(low: int, high: int) -> Any:
        return int(rng.integers(low, high)) if rng.random() < 0.5 else [int(n) for n in rng.integers(low, high, 2)]

    shape = [int(rng.integers(1, 3)), *(int(n) for n in rng.integers(3, 9, 2)), int(rng.integers(1, 4))]
    case: dict[str, Any] = {"op": op, "shape": shape}
    if op == "conv":
        groups = draw(1, 1, 2, 3)
        case["shape"][3] = groups * draw(1, 2)
        options = {"groups": groups, "dilation": draw_pair(1, 3), "stride": 1, "padding": draw("same", "valid")}
        if rng.random() < 0.7:
            options |= {"stride": draw_pair(1, 4), "padding": draw_pair(0, 4)}
        case |= {"kernel_size": draw_pair(1, 5), "features": groups * draw(1, 2), "bias": draw(True, False)}
    elif op in ("max_pool", "avg_pool"):
        options = {"kernel_size": draw_pair(1, 5), "stride": draw(None, draw_pair(1, 5)), "padding": draw_pair(0, 3)}
        options["ceil_mode"] = draw(True, False)
        if op == "max_pool":
            options["dilation"] = draw(1, 1, draw_pair(1, 4))
        else:
            options["count_include_pad"] = draw(True, False)
            options["divisor_override"] = draw(None, None, None, 3)
    elif op == "max_unpool":
        options = {"kernel_size": draw_pair(1, 4), "stride": None, "padding": 0}
    elif op in ("adaptive_avg", "adaptive_max"):
        options = {"output_size": draw_pair(1, 8)}
    else:
        case["shape"][3] = int(rng.integers(1, 9))
        options = {"size": int(rng.integers(1, 7)), "alpha": draw(1e-4, 0.5), "beta": draw(0.75, 0.5), "k": draw(1, 2)}
    return {**case, "options": options}


def draw_arrays(case: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the layer is given, in eighths: `x` NHWC; for a convolution also `kernel` HWIO and `bias`."""

    def eighths(*shape: int) -> np.ndarray:
        return (rng.integers(-16, 17, shape) / 8).astype(np.float32)

    arrays = {"x": eighths(*case["shape"])}
    if case["op"] == "adaptive_max":  # no equals: of those we share the gradient out, PyTorch gives it to the first
        arrays["x"] = rng.permutation(arrays["x"].size).reshape(case["shape"]).astype(np.float32)
    if case["op"] == "conv":
        height, width = np.broadcast_to(case["kernel_size"], 2).tolist()
        arrays["kernel"] = eighths(height, width, case["shape"][3] // case["options"]["groups"], case["features"])
        if case["bias"]:
            arrays["bias"] = eighths(case["features"])
    return arrays


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient that a result is given: every entry another number."""
    return (np.arange(np.prod(shape)).reshape(shape) % 11 - 4).astype(np.float32)


def ask_torch(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """PyTorch's answer, NHWC and HWIO: `out`, `indices` of a max pooling, and the gradient `d_NAME` of each array.

    None where PyTorch refuses the configuration.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]

    tensors = {name: torch.tensor(to_torch(name, array), requires_grad=True) for name, array in arrays.items()}
    x, options, indices = tensors["x"], dict(case["options"]), None
    try:
        if case["op"] == "conv":
            with warnings.catch_warnings():  # that 'same' with an even kernel needs a copy
                warnings.simplefilter("ignore")
                out = functional.conv2d(x, tensors["kernel"], tensors.get("bias"), **options)
        elif case["op"] == "max_pool":
            out, indices = functional.max_pool2d(x, **options, return_indices=True)
        elif case["op"] == "avg_pool":
            out = functional.avg_pool2d(x, **options)
        elif case["op"] == "max_unpool":
            pooled, indices = functional.max_pool2d(x, **options, return_indices=True)
            out = functional.max_unpool2d(pooled, indices, **options, output_size=x.shape[2:])
        elif case["op"] == "adaptive_avg":
            out = functional.adaptive_avg_pool2d(x, **options)
        elif case["op"] == "adaptive_max":
            out = functional.adaptive_max_pool2d(x, **options)
        else:
            out = functional.local_response_norm(x, **options)
    except (RuntimeError, ValueError):
        return None
    answer = {"out": to_ours("x", out.detach().numpy())}
    out.backward(torch.tensor(to_torch("x", cotangent(answer["out"].shape))))
    answer |= {f"d_{name}": to_ours(name, tensor.grad.numpy()) for name, tensor in tensors.items()}
    return answer | ({} if indices is None else {"indices": to_ours("x", indices.numpy())})


def to_torch(name: str, array: np.ndarray) -> np.ndarray:
    """Maps NHWC to NCHW, and a kernel HWIO to OIHW."""
    if array.ndim == 1:
        return array
    return np.ascontiguousarray(array.transpose((3, 2, 0, 1) if name == "kernel" else (0, 3, 1, 2)))


def to_ours(name: str, array: np.ndarray) -> np.ndarray:
    """The way back."""
    if array.ndim == 1:
        return array
    return array.transpose((2, 3, 1, 0) if name == "kernel" else (0, 2, 3, 1))


def main() -> None:
    """Writes the golden cases: one line each, some of every layer."""
    rng = np.random.default_rng(0)
    lines = []
    for op in OPS:
        answered = 0
        while answered < NUM_GOLDEN:
            case = draw_case(op, rng)
            arrays = draw_arrays(case, rng)
            answer = ask_torch(case, arrays)
            if answer is None:
                continue
            answered += 1
            given = {name: array.tolist() for name, array in arrays.items()}
            wanted = {name: np.round(array.astype(float), 5).tolist() for name, array in answer.items()}
            lines.append(json.dumps({**case, "arrays": given, "answer": wanted}, separators=(",", ":")))
    GOLDEN.write_text("[\n" + ",\n".join(lines).replace(".0,", ",").replace(".0]", "]") + "\n]\n")


if __name__ == "__main__":
    main()
