# SPDX-License-Identifier: Apache-2.0
"""Where a run starts when `config.init_from` is set: every array accounted for, the output replaced, and a report."""

import logging
from collections.abc import Collection, Iterator
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cnnjax.errors import RunError
from cnnjax.experiment import Start
from cnnjax.patterns import decide, matches
from cnnjax.report.environment import write_json
from cnnjax.transfer.source import Source, read_source
from cnnjax.types import Array, Config, Model
from cnnjax.weights.convert import ERRORS, Row, match, table
from cnnjax.weights.fit import Fit, load, network_leaves
from cnnjax.weights.layout import Shape, theirs_shape
from cnnjax.weights.names import Place, conventions, places

logger = logging.getLogger(__name__)

START_FILE = "init_from.json"
_LOADED = ("taken", "transposed", "reshaped")


class Report(NamedTuple):
    """What became of each array of the network and of the source.

    Attributes:
      source: `config.init_from`.
      origin: what it was: a run's folder and step, or a file with its checksum.
      names: the convention of the source's names.
      rows: an array each; "initial" are those that start anew.
      notes: sentences for the user.
    """

    source: str
    origin: dict[str, Any]
    names: str
    rows: list[Row]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How many were loaded, start anew (replaced or missing), were renamed and left over."""
        return {
            "loaded": sum(row.status in _LOADED for row in self.rows),
            "replaced": sum(row.status == "initial" for row in self.rows),
            "renamed": sum("was " in row.note for row in self.rows),
            "left": sum(row.status == "left out" for row in self.rows),
        }

    def text(self) -> str:
        """A line of counts, the arrays that were not plainly loaded as a table, and the notes."""
        counts = self.counts()
        count = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        lines = [f"starts from {self.source}: of {len(self.rows)} arrays {count}"]
        odd = [row for row in self.rows if row.status not in (*_LOADED, "ignored") or "was " in row.note]
        return "\n".join([*lines, *([table(odd)] if odd else []), *(f"note: {note}" for note in self.notes)])

    def write(self, workdir: Path) -> None:
        """Keeps it in the run's folder."""
        rows = [row._asdict() for row in self.rows]
        document = {"source": self.source, **self.origin, "names": self.names, "counts": self.counts()}
        write_json(workdir / START_FILE, {**document, "notes": list(self.notes), "arrays": rows})


class Origin(NamedTuple):
    """The network of a config beside the arrays that it starts from, all accounted for."""

    fitted: Fit
    arrays: dict[str, np.ndarray]
    report: Report

    def begin(self, key: Array) -> Start:
        """The parameters and state to start from, at random by `key` where there is no array for them."""
        params, model_state = jax.device_put(load(self.fitted, self.arrays, key))
        anew = [row.ours for row in self.fitted.rows if row.status == "initial"]
        return Start(params, model_state, frozenset(name.removeprefix("params.").replace(".", "/") for name in anew))


def read_origin(
    config: Config, model: Model, label_names: tuple[str, ...], image_shape: tuple[int, int, int]
) -> Origin:
    """What `config.init_from` has for each array of `model`.

    Every array of the network must be in the source in the same shape, and every one of the source in the network,
    but for the output layer when it is for other classes (it starts anew), and for what `config.init_allow` names.

    Args:
      config: reads init_from, init_rename, init_allow, data and model.
      model: the network of `config`.
      label_names: of the data, K.
      image_shape: height, width, channels of the data.

    Raises:
      UsageError: there is no such source, or a rule or pattern matches nothing.
      RunError: nothing matches, or arrays are missing, left over or of another shape (a table of them is logged).
    """
    source = read_source(config)
    leaves = network_leaves(config, len(label_names), image_shape)
    names, found = _places(config.init_from, source, leaves)
    output = _output_layer(config, image_shape)
    allowed = [*_replaceable(output, source, found), *_allowed(config.init_allow, [*leaves, *source.arrays])]
    rows = match(source.arrays, leaves, found, allow=[escape(name) for name in allowed])
    if source.label_names and source.label_names != label_names:
        rows = [_anew(row) if row.ours in output and row.status in _LOADED else row for row in rows]
    rows = [_noted(row, source, output) for row in rows]
    _check(config.init_from, rows)
    report = Report(config.init_from, source.origin, names, rows, (*source.notes, *_doubts(source, config.data)))
    return Origin(Fit(model, len(label_names), image_shape, names, found, rows), source.arrays, report)


def _places(spec: str, source: Source, leaves: dict[str, Any]) -> tuple[str, dict[str, Place]]:
    """The convention whose names fit the source's best, and where each array lies in the source."""
    known = {"native": None} if source.run else conventions(leaves)
    best, found = max(
        ((name, places(leaves, modules)) for name, modules in known.items()),
        key=lambda item: sum(place.name in source.arrays for place in item[1].values()),
    )
    if not any(place.name in source.arrays for place in found.values()):
        theirs, ours = sorted(source.arrays)[:2], sorted(place.name for place in found.values())[:2]
        raise RunError(
            f"config.init_from={spec}: none of its {len(source.arrays)} arrays is one of the network's: it has "
            f"{', '.join(theirs)}, ..., the network wants {', '.join(ours)}, ...; give the config.model it was made "
            "with, or config.init_rename"
        )
    return best, found


def _output_layer(config: Config, image_shape: tuple[int, int, int]) -> dict[str, tuple[Shape, Shape]]:
    """The arrays whose shape depends on the number of classes, each with its shapes for two such numbers."""
    free = config.copy_and_resolve_references()
    with free.unlocked():
        if "num_classes" in free.model:
            del free.model["num_classes"]
    one, other = (network_leaves(free, num_classes, image_shape) for num_classes in (2, 3))
    shapes = {name: (tuple(leaf.shape), tuple(other[name].shape)) for name, leaf in one.items()}
    return {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}


def _replaceable(output: dict[str, tuple[Shape, Shape]], source: Source, found: dict[str, Place]) -> Iterator[str]:
    """The output's arrays that the source lacks, or has for another number of classes and else the same."""
    for name, pair in output.items():
        stored = source.arrays.get(found[name].name)
        sides = zip(*(theirs_shape(found[name].layout, shape) for shape in pair), strict=True)
        fixed = [None if one != other else one for one, other in sides]
        if stored is None or (
            stored.ndim == len(fixed) and all(b in (None, a) for a, b in zip(stored.shape, fixed, strict=True))
        ):
            yield name


def _allowed(patterns: tuple[str, ...], names: list[str]) -> list[str]:
    """The names, of network or source, that `config.init_allow` matches."""
    paths = {name: name.removeprefix("params.").removeprefix("model_state.batch_stats.") for name in names}
    paths = {name: path.replace(".", "/") for name, path in paths.items()}
    decide(patterns, list(paths.values()), "config.init_allow")
    return [name for name, path in paths.items() if any(matches(pattern, path) for pattern in patterns)]


def _anew(row: Row) -> Row:
    return row._replace(status="initial", note="the output is for other classes")


def _noted(row: Row, source: Source, output: Collection[str]) -> Row:
    if row.ours in output and row.status == "initial" and row.stored is not None and row.stored != row.wanted:
        row = row._replace(note="the output is for other classes")
    if row.theirs in source.original and row.stored is not None:
        row = row._replace(note=f"was {source.original[row.theirs]}" + (f"; {row.note}" if row.note else ""))
    return row


def _check(spec: str, rows: list[Row]) -> None:
    wrong = [row for row in rows if row.status in ERRORS]
    if not wrong:
        return
    logger.error("%s", table(wrong))
    counts = ", ".join(f"{sum(r.status == kind for r in wrong)} {kind}" for kind in ERRORS)
    raise RunError(
        f"config.init_from={spec} does not fit the network: of {len(rows)} arrays {counts} (listed above); give the "
        "config.model it was made with, config.init_rename, or config.init_allow for what may start anew or be left"
    )


def _doubts(source: Source, data: Config) -> list[str]:
    """Pictures that are prepared otherwise than the source's were."""
    if source.data is None:
        return []
    return [
        f"config.data.{key} is {data[key]}, the source was trained with {source.data[key]}"
        for key in ("mean", "std")
        if not np.array_equal(data[key], source.data[key])
    ]
