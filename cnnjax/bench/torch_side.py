# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of a measurement: the same steps as ours, eager and compiled. Imported only where it is installed.

Channels last, as many threads as the process may use; in bfloat16 by autocast. The set lies on the device whole, as
ours does, a batch is an index, and the optimizer is the fused one where there is one.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from cnnjax.bench.measure import Side
from cnnjax.bench.peers import check_size, twin_arguments
from cnnjax.bench.subject import Subject
from cnnjax.bench.torch_networks import NETWORKS, torch
from cnnjax.data.order import stream_positions
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config

logger = logging.getLogger(__name__)
functional: Any = torch.nn.functional
Step = Callable[[Any], Any]

EAGER, COMPILED = "torch, eager", "torch, compiled"
MUST_BE = {
    "optimizer.l1": 0.0,
    "optimizer.factors": (),
    "optimizer.decay_factors": (),
    "optimizer.freeze_after": (),
    "optimizer.lookahead": 0,
    "task.class_weights": "none",
    "train.ema_decay": 0.0,
    "train.accumulate": 1,
}


def make_sides(subject: Subject, mode: str, *, compiled: bool = True) -> tuple[list[Side], str | None]:
    """One side of each way to run PyTorch that works here, and a sentence where compiling does not.

    Args:
      subject: what is timed; its config without augmentation.
      mode: "train" or "eval".
      compiled: also by torch.compile.

    Raises:
      UsageError: the network has no twin, or the config has what PyTorch's side does not do.
      RunError: JAX runs on an accelerator that this PyTorch cannot use.
    """
    config = subject.config
    _check(config)
    torch.set_num_threads(threads())
    # As JAX: the fastest algorithm by trial, and float32 products on tensor cores unless the config says otherwise.
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.train.matmul_precision == "default"
    device = _device()
    name = config.model.name
    arguments = twin_arguments(config, NETWORKS, NETWORKS.get(name), subject.num_classes, "torch")
    network = NETWORKS[name](subject.image_shape, **arguments)
    check_size("torch", sum(p.numel() for p in network.parameters()), subject)
    network = network.to(device, memory_format=torch.channels_last).train(mode == "train")
    prepare, rows = _data(subject, device)
    if mode == "train":
        optimizer = make_optimizer(config.optimizer, network)
        loss = make_loss(config)
        clip = config.optimizer.clip_norm
    else:
        optimizer = loss = clip = None

    def stepper(forward: Callable[[Any], Any]) -> Step:
        def forward_in(image: Any) -> Any:
            if config.train.dtype == "float32":
                return forward(image)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                return forward(image)

        def infer(row: Any) -> Any:
            with torch.inference_mode():
                return forward_in(prepare(row)[0])

        def train(row: Any) -> Any:
            assert optimizer is not None and loss is not None  # they are there in training
            image, picture, label = prepare(row)
            optimizer.zero_grad(set_to_none=True)
            value = loss(forward_in(image).float(), picture, label)
            value.backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            return value.detach()

        return infer if mode == "eval" else train

    sides, sentence = [_side(EAGER, stepper(network), rows, subject)], None
    if not compiled:
        return sides, sentence
    try:
        sides.append(_side(COMPILED, stepper(torch.compile(network)), rows, subject))
    except Exception as error:  # whatever the compiler lacks: a C++ compiler, Triton, headers
        sentence = f"torch.compile does not work here: {type(error).__name__}: {_first_line(error)}"
    return sides, sentence


def threads() -> int:
    """Cores that the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def matrix_product_peak(dtype: str, side: int, repeats: int = 5) -> float:
    """Multiply-adds a second of PyTorch's square matrix product, the best of `repeats`."""
    factor = torch.full((side, side), 1 / side, dtype=getattr(torch, dtype), device=_device())
    best = 0.0
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(factor, factor)
        _synchronize()
        if repeat:  # the first one allocates
            best = max(best, side**3 / (time.perf_counter() - start))
    return best


def make_optimizer(optimizer: Config, network: Any) -> Any:
    """PyTorch's optimizer of `config.optimizer`, at its peak rate."""
    kernels = [p for p in network.parameters() if p.ndim >= 2]
    others = [p for p in network.parameters() if p.ndim < 2]
    decay = optimizer.weight_decay
    groups = [
        {"params": kernels, "weight_decay": decay},
        {"params": others, "weight_decay": decay if optimizer.decay == "all" else 0.0},
    ]
    rate, o = optimizer.learning_rate, optimizer
    makers = {
        "sgd": lambda: torch.optim.SGD(groups, rate, o.momentum, nesterov=o.nesterov, fused=True),
        "adam": lambda: torch.optim.Adam(groups, rate, (o.beta1, o.beta2), o.epsilon, fused=True),
        "adamw": lambda: torch.optim.AdamW(groups, rate, (o.beta1, o.beta2), o.epsilon, fused=True),
        "rmsprop": lambda: torch.optim.RMSprop(groups, rate, o.beta2, o.epsilon, momentum=o.momentum),
    }
    if optimizer.name not in makers:
        known = ", ".join(makers)
        raise UsageError(f"PyTorch has no optimizer {optimizer.name}; with --peer=torch take one of {known}")
    return makers[optimizer.name]()


def make_loss(config: Config) -> Callable[[Any, Any, Any], Any]:
    """`loss(output, picture, label)`, the mean over the batch; `picture` has its pixels in 0..1."""
    task = config.task
    if task.name == "reconstruction":
        of_pixels = functional.mse_loss if task.reconstruction_loss == "mse" else functional.binary_cross_entropy
        return lambda output, picture, label: of_pixels(output, picture)
    if task.loss == "cross_entropy":
        return lambda output, picture, label: functional.cross_entropy(
            output, label, label_smoothing=task.label_smoothing
        )

    def squared_error(output: Any, picture: Any, label: Any) -> Any:
        del picture
        target = functional.one_hot(label, output.shape[1]).to(output.dtype)
        smooth = target * (1 - task.label_smoothing) + task.label_smoothing / output.shape[1]
        return functional.mse_loss(output, 2 * smooth - 1)

    return squared_error


def _data(subject: Subject, device: Any) -> tuple[Callable[[Any], Any], Iterator[Any]]:
    """`prepare(row) -> (image, picture, label)`, image [B,C,H,W] channels last, and the endless rows of batches."""
    config, split = subject.config, subject.dataset.splits["train"]
    images, labels = torch.from_numpy(split.image).to(device), torch.from_numpy(split.label).long().to(device)
    mean, std = (
        torch.tensor(numbers, device=device).reshape(1, -1, 1, 1) for numbers in (config.data.mean, config.data.std)
    )

    def prepare(row: Any) -> Any:
        picture = images[row].permute(0, 3, 1, 2).float().div_(255)  # NHWC in memory, as before
        return (picture - mean) / std, picture, labels[row]

    def rows() -> Iterator[Any]:
        size, step = config.data.batch_size, 0
        while True:
            example, _ = stream_positions(config.seed, step * size, size, len(split.label))
            yield torch.from_numpy(np.asarray(example, np.int64)).to(device, non_blocking=True)
            step += 1

    return prepare, rows()


def _side(name: str, step: Step, rows: Iterator[Any], subject: Subject) -> Side:
    start = time.perf_counter()
    step(next(rows))
    _synchronize()
    first = time.perf_counter() - start
    start = time.perf_counter()
    step(next(rows))
    _synchronize()
    second = time.perf_counter() - start

    def run(steps: int) -> int:
        for _ in range(steps):
            result = step(next(rows))
            if result.ndim == 0 and result.device.type == "cpu":
                result.item()  # the trainer reads every loss; on an accelerator that would wait
        _synchronize()
        return steps

    return Side(name, subject.config.data.batch_size, run, max(0.0, first - second))


def _check(config: Config) -> None:
    for key, value in MUST_BE.items():
        section, _, name = key.partition(".")
        if config[section][name] != value:
            raise UsageError(f"PyTorch's side knows no config.{key}; with --peer=torch leave it at {value}")


def _device() -> Any:
    platform = jax.default_backend()
    if platform == "cpu":
        return torch.device("cpu")
    if platform == "gpu" and torch.cuda.is_available():
        return torch.device("cuda")
    raise RunError(
        f"JAX runs on {platform}, but this PyTorch cannot; install a PyTorch for it, or set JAX_PLATFORMS=cpu"
    )


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no reason given"
