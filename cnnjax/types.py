# SPDX-License-Identifier: Apache-2.0
"""The nouns of the project. Nothing here computes.

Shapes are written with B batch, H W spatial, C channels, K classes, N examples of a split.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NotRequired, Protocol, TypedDict

import jax
import numpy as np

Array = jax.Array
PyTree = Any
Params = PyTree
ModelState = PyTree
Config = Any
"""An `ml_collections.ConfigDict`, or a section of one; its keys are attributes that no type checker knows."""
Outputs = dict[str, Array]
"""What a network returns: `logits` [B,K] (or `recon`, `latent`), and any named intermediates."""


class ApplyFn(Protocol):
    """The forward pass of a network, a pure function."""

    def __call__(
        self, params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        """Maps a float image [B,H,W,C] to its outputs and the next model_state.

        `key` feeds dropout and is needed only with `train=True`; `train=False` is deterministic.
        """
        ...


class Model(NamedTuple):
    """A network as two pure functions; any library, or none, can provide them.

    Attributes:
      init: `init(key, image) -> (params, model_state)`; `image` [B,H,W,C] gives shape and dtype only.
      apply: `apply(params, model_state, image, *, train, key=None) -> (outputs, model_state)`.
        `model_state` is `{}` for a network without running statistics.
      init_from_data: None, or `init_from_data(params, model_state, image) -> (params, model_state)`, which a new run
        calls once on what `init` gave; `image` [N,H,W,C] are training images as the network sees them, not augmented.
    """

    init: Callable[[Array, Array], tuple[Params, ModelState]]
    apply: ApplyFn
    init_from_data: Callable[[Params, ModelState, Array], tuple[Params, ModelState]] | None = None


class Batch(TypedDict):
    """Rows of a data set; every batch of a stream has the same B."""

    image: Array  # [B,H,W,C] uint8 as stored; float32 once prepared for the network
    label: Array  # [B] int32, or [B,K] float32 when classes are mixed
    mask: Array  # [B] float32, 1 for an example, 0 for padding
    example: NotRequired[Array]  # [B] int32, the row of the split: with epoch, the source of randomness
    epoch: NotRequired[Array]  # [B] int32
    partner: NotRequired["Batch"]  # the rows to mix with (mixup, cutmix)
    clean: NotRequired[Array]  # [B,H,W,C] `image` before input noise: what a denoising network is to give back


class TrainState(NamedTuple):
    """All that training changes: arrays only, so it can be saved, donated and compared bit for bit."""

    step: Array  # [] int32, optimizer steps taken
    params: Params
    model_state: ModelState
    opt_state: PyTree
    ema_params: Params  # {} unless an average is kept


Task = Callable[[Outputs, Batch], dict[str, Array]]
"""`task(outputs, batch)` gives per-example values [B]: `loss`, which is minimised, and metrics to report."""

PrepareFn = Callable[[Array, Batch], Batch]
"""`prepare(key, batch)`: stored pixels to network input; augmentation lives here."""


class Split(NamedTuple):
    """One split of a data set: decoded, in host memory, or streamed.

    `image` of a streamed one is a `cnnjax.data.streamed.Images`: it has the shape and decodes rows when indexed.
    """

    image: np.ndarray  # [N,H,W,C] uint8
    label: np.ndarray  # [N] int32 in [0, K)


class Dataset(NamedTuple):
    """A data set: some of the splits `train`, `validation`, `test`, all of one image shape."""

    name: str
    label_names: tuple[str, ...]  # K names
    splits: Mapping[str, Split]


class Stream(NamedTuple):
    """Batches as the trainer and the evaluator consume them, resident or streamed.

    Step `s` is `batch(arrays, item)`, where `items(s, 1)` holds `item` behind a leading axis of 1.

    Attributes:
      num_examples: N.
      batch_size: B.
      arrays: device arrays that stay for the whole run (the set itself when it is resident).
      items: `items(first_step, count)` -> host arrays with leading axis `count`.
      batch: `batch(arrays, item) -> Batch`, pure and traced into the step.
      blank: `blank(count)` -> arrays of the shapes of `items(0, count)`, made without reading any picture.
      local: whether `items` gives only the rows of this process: leaves [count,B/n,...] of n processes, of which
        process p has the rows p*B/n to (p+1)*B/n - 1 of a batch. Else they are whole and the same in every process.
      waited: the seconds that `items` took since the last call; None where it takes none to speak of.
      close: lets go of what makes items ahead of time; asking for items starts it again.
    """

    num_examples: int
    batch_size: int
    arrays: PyTree
    items: Callable[[int, int], PyTree]
    batch: Callable[[PyTree, PyTree], Batch]
    blank: Callable[[int], PyTree]
    local: bool = False
    waited: Callable[[], float] | None = None
    close: Callable[[], None] = lambda: None


class Stored(Protocol):
    """One split of a source as its files hold it: random access from several threads, small to hand to a process.

    Attributes:
      mode: the colours that the set declares its pictures to have, "L" or "RGB"; "": as stored.
    """

    mode: str

    def labels(self) -> np.ndarray:
        """The source's number of each record's label, [N] int32; may read every record the first time."""
        ...

    def read(self, i: int) -> bytes:
        """The file of picture `i`. Raises OSError or ValueError when it cannot be read."""
        ...

    def name(self, i: int) -> str:
        """What to call record `i` before the user."""
        ...


class Records(NamedTuple):
    """One split of a source before decoding: random access, cheap to make, read from several threads.

    Attributes:
      num_records: how many there are.
      read: `read(i)` -> (picture, label), the picture a PIL image or a uint8 array [H,W] or [H,W,C].
        Raises OSError or ValueError when record `i` cannot be read.
      name: `name(i)` -> what to call record `i` before the user: its file, or "train[17]".
      stored: the same records undecoded, in the same order; None: they can only be read as a whole set.
    """

    num_records: int
    read: Callable[[int], tuple[Any, int]]
    name: Callable[[int], str]
    stored: Stored | None = None


class Source(NamedTuple):
    """Where a data set comes from: its records by split, under the source's own split names."""

    name: str
    label_names: tuple[str, ...]
    splits: Mapping[str, Records]
    fingerprint: str  # changes whenever the records do
