# SPDX-License-Identifier: Apache-2.0
"""Draw training images as the network will see them: augmented, epoch by epoch.

Each row of DIR/preview.png is one training image, as stored and then as it enters the network in epochs 0, 1, ...,
before normalisation: the very pixels of a training run with this config. The path of the picture is printed.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from cnnjax.data.streamed import Crop
    from cnnjax.types import Batch, Config, Dataset, Split

PREVIEW_FILE = "preview.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--rows", type=int, default=6, help="training images (default: 6)")
    parser.add_argument("--views", type=int, default=8, help="epochs of each (default: 8)")


def run(args: argparse.Namespace) -> int:
    """Writes the sheet and prints its path."""
    from cnnjax import devices
    from cnnjax.config import load_config
    from cnnjax.data import load_dataset
    from cnnjax.errors import UsageError
    from cnnjax.report.sheet import contact_sheet

    for flag in ("rows", "views"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} is {getattr(args, flag)}; it must be 1 or more")
    config = load_config(args.config, args.overrides)
    if not args.workdir:
        raise UsageError(f"no workdir given; add --workdir=DIR, the folder that {PREVIEW_FILE} is written to")
    devices.use_compilation_cache()
    dataset = load_dataset(config.data, ("train",))
    images, captions = draw(config, dataset, args.rows, args.views)
    path = Path(args.workdir).expanduser() / PREVIEW_FILE
    title = f"{dataset.name}: training images as stored, and as augmented (seed {config.seed})"
    contact_sheet(images, captions, columns=1 + args.views, path=path, title=title)
    print(path)
    return 0


def draw(config: "Config", dataset: "Dataset", rows: int, views: int) -> "tuple[np.ndarray, list[str]]":
    """The first `rows` images of epoch 0, each as stored and then as epochs 0..views-1 show it.

    Returns:
      (images, captions): uint8 [rows * (1 + views),H,W,C], row by row, and as many texts.
    """
    import jax
    import numpy as np

    from cnnjax.augment import needs_partner
    from cnnjax.data.order import epoch_order
    from cnnjax.data.streams import device_config, host_crop
    from cnnjax.preprocess import make_prepare

    split, names = dataset.splits["train"], dataset.label_names
    whole, config = host_crop(config, split), device_config(config, split)
    examples = epoch_order(config.seed, 0, len(split.label))[:rows]
    example, epoch = np.repeat(examples, views), np.tile(np.arange(views, dtype=np.int32), len(examples))
    batch = _rows(split, example, epoch, config.seed, whole)
    if needs_partner(config.augment):
        following = _next_rows(config.seed, example, epoch, len(split.label))
        batch["partner"] = _rows(split, *following, config.seed, whole)
    prepare_train, _ = make_prepare(config.data, config.augment, len(names))
    prepared = jax.jit(prepare_train)(jax.random.key(config.seed), batch)

    pixels = np.asarray(prepared["image"]) * np.float32(config.data.std) + np.float32(config.data.mean)
    seen = np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8).reshape(len(examples), views, *split.image.shape[1:])
    images = np.concatenate([split.image[examples][:, None], seen], axis=1).reshape(-1, *split.image.shape[1:])
    labels = np.asarray(prepared["label"]).reshape(len(examples), views, *prepared["label"].shape[1:])
    captions = []
    for row, stored in enumerate(examples):
        captions.append(names[split.label[stored]])
        captions += [f"epoch {view}{_mixture(labels[row, view], names)}" for view in range(views)]
    return images, captions


def _rows(split: "Split", example: "np.ndarray", epoch: "np.ndarray", seed: int, whole: "Crop | None") -> "Batch":
    """Rows of the split in their epochs; `whole`: the random crop that is cut from whole pictures."""
    import jax.numpy as jnp
    import numpy as np

    from cnnjax.data.streamed import cropped, rows_of
    from cnnjax.types import Batch

    if whole is None:
        image = split.image[example]
    else:
        places = zip(example.tolist(), epoch.tolist(), strict=True)
        image = np.stack([cropped(rows_of(split), one, visit, seed, whole) for one, visit in places])
    return Batch(
        image=jnp.asarray(image),
        label=jnp.asarray(split.label[example]),
        mask=jnp.ones(len(example)),
        example=jnp.asarray(example),
        epoch=jnp.asarray(epoch),
    )


def _next_rows(
    seed: int, example: "np.ndarray", epoch: "np.ndarray", num_examples: int
) -> "tuple[np.ndarray, np.ndarray]":
    """(example, epoch) of the rows that stand next in the stream, which training mixes these with."""
    import numpy as np

    from cnnjax.data.order import epoch_order, stream_positions

    following = []
    for one, visit in zip(example, epoch, strict=True):
        place = int(np.argmax(epoch_order(seed, int(visit), num_examples) == one))
        following.append(stream_positions(seed, int(visit) * num_examples + place + 1, 1, num_examples))
    examples, epochs = zip(*following, strict=True)
    return np.concatenate(examples), np.concatenate(epochs)


def _mixture(label: "np.ndarray", names: tuple[str, ...]) -> str:
    """What a mixed label adds to a caption: its classes with their weights, heaviest first."""
    if label.ndim == 0:
        return ""
    order = (-label).argsort(kind="stable")[:2]
    return "".join(f"\n{100 * label[i]:.0f}% {names[i]}" for i in order if label[i] >= 0.005)
