# SPDX-License-Identifier: Apache-2.0
"""Protocols by name: at which sizes pictures are read, which views of them are shown, and how answers are averaged."""

from collections.abc import Callable
from typing import NamedTuple

from cnnjax.errors import UsageError, unknown
from cnnjax.protocols import views
from cnnjax.protocols.views import Views
from cnnjax.types import Config

MARGIN = 8 / 7
"""Short side of the picture over the crop where nothing else is said: 256 for 224."""
SCALES = (7 / 8, 1.0, 9 / 8)
"""Scales of `multiscale` over the short side: 224, 256, 288 for 256 (VGG's S - 32, S, S + 32, section 4.2)."""


class Pass(NamedTuple):
    """One reading of the split.

    Attributes:
      size: (height, width) in pixels that pictures are brought to; None: as in training.
      views: what is shown of each.
      dense: whether the network is turned into a fully convolutional one.
    """

    size: tuple[int, int] | None
    views: Views
    dense: bool = False


class Protocol(NamedTuple):
    """How a split is evaluated: its passes weigh the same; `averaging` is "probabilities" or "logits"."""

    name: str
    passes: tuple[Pass, ...]
    averaging: str

    @property
    def num_views(self) -> int:
        """Pictures shown to the network for each of the split."""
        return sum(len(each.views.weight) for each in self.passes)


def make_protocol(config: Config, image_shape: tuple[int, int, int]) -> Protocol:
    """The protocol of `config.eval`.

    Args:
      config: of the run; reads eval, data, augment and seed.
      image_shape: (height, width, channels) of training's pictures.

    Raises:
      UsageError: an unknown protocol, or numbers that do not fit each other or the pictures.
    """
    name = config.eval.protocol
    if name not in PROTOCOLS:
        raise UsageError(unknown("config.eval.protocol", name, PROTOCOLS))
    return Protocol(name, PROTOCOLS[name](config, image_shape[:2]), config.eval.averaging)


def sized(data: Config, size: tuple[int, int] | None) -> Config:
    """`config.data` that reads pictures at `size`, by the policy of training.

    Raises:
      UsageError: the policy pads and does not scale.
    """
    if size is None:
        return data
    if data.resize == "pad":
        raise UsageError(
            "config.data.resize = 'pad' has no larger picture to cut crops from; take fit, or --protocol=tta"
        )
    data = data.copy_and_resolve_references()
    square = data.resize == "crop" and size[0] == size[1]
    with data.unlocked():
        data.image_size, data.crop_from = size, size[0] if square else 0
    return data


def _single(config: Config, shape: tuple[int, int]) -> tuple[Pass, ...]:
    del config, shape
    return (Pass(None, views.whole(mirrored=False)),)


def _center(config: Config, shape: tuple[int, int]) -> tuple[Pass, ...]:
    crop = _crop(config, shape)
    size = _size(config, crop)
    return (Pass(size, views.centre(size, crop)),)


def _tencrop(config: Config, shape: tuple[int, int]) -> tuple[Pass, ...]:
    crop = _crop(config, shape)
    size = _size(config, crop)
    return (Pass(size, views.ten_crops(size, crop)),)


def _dense(config: Config, shape: tuple[int, int]) -> tuple[Pass, ...]:
    return _convolutional(config, shape, tuple(config.eval.scales) or (_short_side(config, shape),))


def _multiscale(config: Config, shape: tuple[int, int]) -> tuple[Pass, ...]:
    short = _short_side(config, shape)
    return _convolutional(config, shape, tuple(config.eval.scales) or tuple(round(scale * short) for scale in SCALES))


def _tta(config: Config, shape: tuple[int, int]) -> tuple[Pass, ...]:
    del shape
    return (Pass(None, VIEWS[config.eval.views](config)),)


def _augment_views(config: Config) -> Views:
    mean = tuple(config.data.mean)
    return views.augmented(config.augment, mean, seed=config.seed, num_views=config.eval.num_views)


PROTOCOLS: dict[str, Callable[[Config, tuple[int, int]], tuple[Pass, ...]]] = {
    "single": _single,
    "center": _center,
    "tencrop": _tencrop,
    "dense": _dense,
    "multiscale": _multiscale,
    "tta": _tta,
}
VIEWS: dict[str, Callable[[Config], Views]] = {
    "mirror": lambda config: views.whole(mirrored=True),
    "mirror_shift": lambda config: views.mirror_shift(),
    "augment": _augment_views,
}


def _convolutional(config: Config, shape: tuple[int, int], scales: tuple[int, ...]) -> tuple[Pass, ...]:
    for scale in scales:
        if scale < min(shape):
            raise UsageError(
                f"config.eval.scales: {scale} is less than the {min(shape)} pixels that the network was trained on, so "
                "its dense layers do not fit the map once; take larger ones"
            )
    return tuple(Pass(_around(shape, scale), views.whole(mirrored=config.eval.mirror), dense=True) for scale in scales)


def _crop(config: Config, shape: tuple[int, int]) -> tuple[int, int]:
    return tuple(config.eval.crop) or shape


def _short_side(config: Config, crop: tuple[int, int]) -> int:
    return config.eval.resize or config.data.crop_from or round(MARGIN * min(crop))


def _size(config: Config, crop: tuple[int, int]) -> tuple[int, int]:
    short = _short_side(config, crop)
    if short < min(crop):
        raise UsageError(
            f"the short side of {short} pixels is less than the crop of {crop[0]}x{crop[1]}: set config.eval.resize to "
            f"{min(crop)} or more, or config.eval.crop to less"
        )
    return _around(crop, short)


def _around(crop: tuple[int, int], short: int) -> tuple[int, int]:
    """The picture of `crop`'s proportions with a short side of `short`."""
    height, width = (round(side * short / min(crop)) for side in crop)
    return height, width
