# SPDX-License-Identifier: Apache-2.0
"""How fast pictures of a streamed set come, beside bare decoding and beside torchvision's DataLoader, by turns."""

import io
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from cnnjax.bench.measure import Side, interleave, spread
from cnnjax.data import load_dataset
from cnnjax.data.jpeg import decode
from cnnjax.data.streamed import Rows, is_streamed, rows_of
from cnnjax.data.streams import host_crop, train_stream
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config

OURS, DECODING, PEER = "cnnjax", "decoding alone", "torchvision, DataLoader"


def measure_loading(config: Config, *, rounds: int, steps: int | None) -> dict[str, Any]:
    """Batches of uint8 in host memory, crops included, no network.

    Ours takes `config.data.workers` and `threads`, decoding alone one thread a core, the DataLoader a process a core.
    Each side has as many batches made ahead when its turn begins: take many more steps than `config.data.prefetch`.

    Args:
      config: with a streamed source.
      rounds: repetitions.
      steps: of a turn; None: as many as take a second.

    Returns:
      `batch_size`, `cores`, `rounds` and `images_per_second`: of each side median, min and max.

    Raises:
      UsageError: the set is not streamed, or its pictures have no fixed size.
      RunError: torchvision is not installed.
    """
    split = load_dataset(config.data, ("train",)).splits["train"]
    if not is_streamed(split):
        raise UsageError("--mode=input --peer=torch measures the streaming of pictures: set config.data.stream=true")
    stream, rows, size = train_stream(config, split), rows_of(split), config.data.batch_size
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    peer = _torch_batches(rows, size, config, cores, crop=host_crop(config, split))
    ours = (stream.items(step, 1) for step in itertools.count())
    with ThreadPoolExecutor(cores) as pool:
        bare = _decoded(rows, size, pool)
        sides = [Side(name, size, _taken(made), 0.0) for name, made in ((OURS, ours), (DECODING, bare), (PEER, peer))]
        found = interleave(sides, rounds=rounds, warmup=3, steps=steps)
    stream.close()
    rates = {name: spread(values)._asdict() for name, values in found.items()}
    return {"batch_size": size, "cores": cores, "rounds": rounds, "images_per_second": rates}


def format_loading(measured: dict[str, Any]) -> str:
    """As a table for the terminal."""
    from cnnjax.report.table import format_table

    rows = [
        (name, f"{r['median']:.0f}", f"{r['min']:.0f} to {r['max']:.0f}", f"{r['median'] / measured['cores']:.0f}")
        for name, r in measured["images_per_second"].items()
    ]
    return format_table(("", "images/s", f"{measured['rounds']} rounds", "a core"), rows, "lrrr")


def _taken(made: Iterator[Any]) -> Callable[[int], int]:
    def run(steps: int) -> int:
        for _ in range(steps):
            next(made)
        return steps

    return run


def _decoded(rows: Rows, size: int, pool: ThreadPoolExecutor) -> Iterator[None]:
    """Whole pictures at full size, nothing done with them."""
    whole = rows.policy._replace(image_size=(), crop_from=0)
    order = itertools.cycle(rows.index.tolist())
    while True:
        chosen = list(itertools.islice(order, size))
        list(pool.map(lambda i: decode(rows.stored.read(i), whole).nbytes, chosen))
        yield


class _Pictures:
    """A map-style set of PyTorch's: as torchvision's own folders, Pillow and its transforms."""

    def __init__(self, rows: Rows, transform: Any):
        self.rows, self.transform = rows, transform

    def __len__(self) -> int:
        return len(self.rows.index)

    def __getitem__(self, row: int) -> Any:
        with Image.open(io.BytesIO(self.rows.stored.read(int(self.rows.index[row])))) as picture:
            return self.transform(picture.convert("RGB"))


def _torch_batches(rows: Rows, size: int, config: Config, cores: int, crop: Any) -> Iterator[Any]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
        from torchvision import transforms  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise RunError(
            "--peer=torch needs torchvision, of the group `peers`: uv run --group peers run.py ..."
        ) from None
    shape = rows.image_shape[:2]
    cut = transforms.RandomResizedCrop(shape, *crop) if crop else transforms.Resize(shape)
    loader = torch.utils.data.DataLoader(
        _Pictures(rows, transforms.Compose([cut, transforms.PILToTensor()])),  # pyright: ignore[reportArgumentType]
        batch_size=size,
        shuffle=True,
        drop_last=True,
        num_workers=cores,
        prefetch_factor=max(1, config.data.prefetch // cores),
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))
