# SPDX-License-Identifier: Apache-2.0
"""What came of the proofs, as a table and as a document."""

from collections.abc import Sequence
from typing import Any

from cnnjax.report.table import format_duration, format_table
from cnnjax.verify.proofs import TOLERANCE, Finding

_WORDS = {True: "holds", False: "FAILS", None: "not tried"}


def format_findings(backend: str, findings: Sequence[Finding]) -> str:
    """The table, and what follows from it for this backend."""
    rows = []
    for finding in findings:
        apart = "" if finding.difference is None else f"{finding.difference:.1e}" if finding.difference else "0"
        row = (finding.guarantee, finding.tried, _WORDS[finding.holds], apart, format_duration(finding.seconds))
        rows.append(row)
    table = format_table(("guarantee", "tried", "result", "difference", "time"), rows, "lllrr")
    return "\n".join([table, "", *conclusions(backend, findings)])


def conclusions(backend: str, findings: Sequence[Finding]) -> list[str]:
    """A sentence or two on what holds here, and on what to do where something does not."""
    bits, told = findings[:2], []
    if all(finding.holds for finding in bits):
        told.append(f"On this {backend} the run is exact: the same bits each time, however often it is stopped.")
    for finding in bits:
        if finding.holds is False:
            told.append(f"FAILS: {finding.guarantee}: {finding.told}.")
    if backend == "gpu" and not all(finding.holds for finding in bits):
        told.append("GPUs add up in any order unless config.train.deterministic=True; set it and verify again.")
    if findings[2].difference is not None:
        verb = "are within" if findings[2].holds else "are not within"
        told.append(f"Losses and gradients of one device and many {verb} {TOLERANCE:g} of each other.")
    return told


def document(backend: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for `--json`."""
    return {
        "backend": backend,
        "tolerance": TOLERANCE,
        "holds": not any(finding.holds is False for finding in findings),
        "guarantees": [finding._asdict() for finding in findings],
    }
