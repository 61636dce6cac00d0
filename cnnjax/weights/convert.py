# SPDX-License-Identifier: Apache-2.0
"""Arrays of a file to the parameters of a network: every array accounted for, one line each."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import RunError
from cnnjax.report.table import format_table
from cnnjax.weights.layout import Shape, theirs_shape, to_ours
from cnnjax.weights.names import Place

IGNORED = "num_batches_tracked"  # PyTorch's count of training batches, which inference does not use


class Row(NamedTuple):
    """What became of one array.

    Attributes:
      ours: native name here; "" when the network has no such array.
      theirs: name in the file; "" when the file has no such tensor.
      stored: shape in the file, None when it is not there.
      wanted: shape that the file would need, None when the network has no such array.
      status: "taken", "transposed" or "reshaped"; "missing", "unexpected" or "shape differs", which are errors unless
        allowed by name; "initial" (missing or of another shape, allowed), "left out" (unexpected, allowed) and
        "ignored" (batches counted by PyTorch).
      note: why, or what the remedy is.
    """

    ours: str
    theirs: str
    stored: Shape | None
    wanted: Shape | None
    status: str
    note: str = ""


ERRORS = ("missing", "unexpected", "shape differs")


def match(
    tensors: Mapping[str, np.ndarray],
    leaves: Mapping[str, Any],
    found: Mapping[str, Place],
    *,
    allow: Sequence[str] = (),
    per_class: Collection[str] = (),
) -> list[Row]:
    """Accounts for every array of the network and every tensor of the file; nothing is converted yet.

    Args:
      tensors: the file's.
      leaves: the network's arrays or their shapes (`names.named_leaves`, blocks unstacked).
      found: where each of them lies in the file (`names.places`).
      allow: patterns (`*`, `?`, `[...]`) of names, ours or the file's, that may be missing, unexpected or of another
        shape.
      per_class: the leaves whose shape depends on the number of classes, for the reason given.
    """

    def allowed(*names: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in names for pattern in allow if name)

    rows = []
    for ours, leaf in leaves.items():
        theirs, layout = found[ours]
        wanted = theirs_shape(layout, tuple(leaf.shape))
        stored = tuple(tensors[theirs].shape) if theirs in tensors else None
        status, note = layout.change, ""
        if stored is None:
            status, note = ("initial", "missing, allowed") if allowed(ours, theirs) else ("missing", "")
        elif stored != wanted:
            note = _reason(stored, wanted, per_class=ours in per_class)
            status, note = (
                ("initial", f"shape differs, allowed: {note}") if allowed(ours, theirs) else (ERRORS[2], note)
            )
        elif tensors[theirs].dtype != leaf.dtype:
            note = f"{tensors[theirs].dtype.name} to {np.dtype(leaf.dtype).name}"
        rows.append(Row(ours, theirs, stored, wanted, status, note))
    known = {place.name for place in found.values()}
    for theirs, tensor in tensors.items():
        if theirs not in known:
            ignored = theirs.rpartition(".")[2] == IGNORED
            status = "ignored" if ignored else "left out" if allowed(theirs) else "unexpected"
            rows.append(Row("", theirs, tuple(tensor.shape), None, status))
    return rows


def _reason(stored: Shape, wanted: Shape, *, per_class: bool) -> str:
    if per_class:
        return "another number of classes: set --config.model.num_classes, or leave it to the file"
    if sorted(stored) == sorted(wanted):
        return "the axes are in another order: set --names"
    if len(stored) == len(wanted) and stored[1:2] != wanted[1:2] and stored[:1] == wanted[:1]:
        return "another input (channels, image size) or width: set --input or --config.model.*"
    return "another depth, width or variant of the network: set --config.model.*"


def check(rows: Sequence[Row]) -> None:
    """Raises RunError when a row is an error; says how many of which kind, and the first."""
    wrong = {kind: [row for row in rows if row.status == kind] for kind in ERRORS}
    if not any(wrong.values()):
        return
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in wrong.items() if found)
    first = next(found[0] for found in wrong.values() if found)
    name = first.theirs or first.ours
    raise RunError(
        f"the weights do not fit the network: {counts} of {len(rows)} arrays, the first {name}"
        f"{f' ({first.note})' if first.note else ''}; give the config that they are for, or --allow=PATTERN"
    )


def convert(
    tensors: Mapping[str, np.ndarray],
    leaves: Mapping[str, Any],
    found: Mapping[str, Place],
    rows: Sequence[Row],
    initial: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Every array of the network, in its dtype: from the file, or from `initial` where the row says so."""
    status = {row.ours: row.status for row in rows if row.ours}
    converted = {}
    for ours, leaf in leaves.items():
        if status[ours] == "initial":
            converted[ours] = np.asarray(initial[ours])
        else:
            array = to_ours(found[ours].layout, tensors[found[ours].name])
            converted[ours] = array.astype(np.dtype(leaf.dtype), copy=False)
    return converted


def table(rows: Sequence[Row]) -> str:
    """The rows as text, errors last, and a line of counts."""
    ordered = sorted(rows, key=lambda row: row.status in ERRORS)
    cells = [
        (row.ours or "-", row.theirs or "-", _shape(row.stored), _shape(row.wanted), row.status, row.note)
        for row in ordered
    ]
    header = ("network", "file", "shape in the file", "shape wanted", "", "")
    counts: dict[str, int] = {}
    for row in ordered:
        counts[row.status] = counts.get(row.status, 0) + 1
    total = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{format_table(header, cells, 'llllll')}\n\n{len(rows)} arrays: {total}"


def _shape(shape: Shape | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) or "scalar"
