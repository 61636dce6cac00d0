# SPDX-License-Identifier: Apache-2.0
"""Several runs of one kind: their results together, and the config that they have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.config import MEMBERS_FILE, config_from_json, difference
from cnnjax.errors import UsageError
from cnnjax.types import Config
from cnnjax.workdir import read_members


def mean_and_std(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Of the last step's metrics of several runs: {"mean" | "std": {split: {metric: value}}}; std of one run is 0."""
    splits = results[0]["last"]
    values = {split: {m: [r["last"][split][m] for r in results] for m in metrics} for split, metrics in splits.items()}

    def each(function: Any) -> dict[str, dict[str, float]]:
        return {split: {m: float(function(of)) for m, of in metrics.items()} for split, metrics in values.items()}

    return {"mean": each(np.mean), "std": each(lambda of: np.std(of, ddof=1) if len(of) > 1 else 0.0)}


def check_same_members(path: Path, config: Config, *, accept_changes: bool) -> None:
    """Raises UsageError when the runs in `path` have another config than `config`, and changes are not accepted."""
    told = read_members(path)
    changes = difference(config_from_json(told.get("config"), where=f"{path / MEMBERS_FILE}"), config)
    if changes and not accept_changes:
        keys = ", ".join(f"config.{key}" for key, *_ in changes[:4])
        raise UsageError(
            f"{path} holds runs ({told['kind']}) with another config ({len(changes)} keys differ: {keys}): go on with "
            "--accept_changes, or take another --workdir"
        )
