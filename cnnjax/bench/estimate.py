# SPDX-License-Identifier: Apache-2.0
"""How long a step would take on a slice of TPUs: XLA's counts of a compiled step over published speeds."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from cnnjax.bench.collectives import Collective, sum_up
from cnnjax.bench.report import format_rate, format_seconds
from cnnjax.bench.slices import Program
from cnnjax.errors import UsageError, unknown
from cnnjax.report.table import format_bytes, format_count, format_table


class Chip(NamedTuple):
    """Published numbers of a TPU.

    Attributes:
      flops: operations a second in bfloat16, at most.
      hbm_rate: bytes a second from and to its memory (HBM), at most.
      hbm_bytes: of that memory.
      link_rate: bytes a second over one of its four links, in one direction.
      chips_per_host: at most.
    """

    flops: float
    hbm_rate: float
    hbm_bytes: float
    link_rate: float
    chips_per_host: int


# docs.cloud.google.com/tpu/docs/v5e and v6e, "System architecture": 400 and 800 GB/s a chip in both directions over
# four links are 50 and 100 a link and direction. Both are grids of two axes.
CHIPS = {"v5e": Chip(197e12, 819e9, 16e9, 50e9, 8), "v6e": Chip(918e12, 1638e9, 32e9, 100e9, 8)}
CLOSED = 16  # an axis of so many chips is a ring, a shorter one a line (jax-ml.github.io/scaling-book/tpus)
# Of one hop over a link, whatever the bytes: "about 1 us", and 8 us where the rule gave three hops
# (jax-ml.github.io/scaling-book/sharding, "A note on ICI latency" and quiz 2).
HOP, SLOW_HOP = 1e-6, 8e-6 / 3


def parse_slice(name: str) -> tuple[Chip, tuple[int, int]]:
    """The chip and the axes of "v5e:16x16".

    Raises:
      UsageError: an unknown chip, or no axes.
    """
    kind, _, axes = name.partition(":")
    if kind not in CHIPS:
        raise UsageError(unknown("chip of --slice", kind, CHIPS))
    sizes = axes.split("x")
    if len(sizes) != 2 or not all(size.isdigit() and int(size) for size in sizes):
        raise UsageError(f"--slice={name} is no CHIP:ROWSxCOLUMNS, such as {kind}:16x16")
    return CHIPS[kind], (int(sizes[0]), int(sizes[1]))


def collective_seconds(one: Collective, chip: Chip, axes: Sequence[int], hop: float) -> tuple[float, float]:
    """(seconds of the way, seconds of the bytes) of a collective operation over all chips; it takes the longer one.

    The way is the longest on the grid, along its axes one after the other; an all-reduce goes it twice. Bytes leave by
    all links at once (jax-ml.github.io/scaling-book/sharding).
    """
    hops = sum(size // 2 if size == CLOSED else size - 1 for size in axes)
    links = sum(2 if size == CLOSED else 1 for size in axes if size > 1)
    times = 2 if one.name == "all-reduce" else 1
    return times * hops * hop, one.sent_bytes / (links * chip.link_rate) if links else 0.0


def estimate(program: Program, chip: Chip, axes: Sequence[int], batch_size: int) -> dict[str, Any]:
    """Seconds of a step, in parts and under three assumptions.

    "limit": arithmetic at its peak hides memory and long sums. "roofline": the slower of arithmetic and memory hides
    the other, and long sums. "in turn": nothing hides anything, and hops are slow. Short sums, whose way takes longer
    than their bytes, are waited for in each: those of BatchNorm, whose results the next operation needs.

    Returns:
      {"arithmetic", "memory": seconds; "short_sums": {"count", "seconds", "slow_seconds"}, "long_sums": {"count",
      "bytes" that a chip sends, "seconds"}, "cases": {"limit" and so on: {"seconds", "images_per_second" of the slice,
      "efficiency": images a second beside as many chips that had nothing to say to each other}}}.
    """
    arithmetic, memory = program.flops / chip.flops, program.accessed_bytes / chip.hbm_rate
    short, long = [], []
    for one in program.collectives:
        way, data = collective_seconds(one, chip, axes, HOP)
        (short if way > data else long).append(one)

    def seconds(each: Sequence[Collective], hop: float) -> float:
        return sum(max(collective_seconds(one, chip, axes, hop)) for one in each)

    waits, slow_waits, sums = seconds(short, HOP), seconds(short, SLOW_HOP), seconds(long, SLOW_HOP)
    cases = {
        "limit": (arithmetic, waits),
        "roofline": (max(arithmetic, memory), waits),
        "in turn": (arithmetic + memory, slow_waits + sums),
    }
    return {
        "arithmetic": arithmetic,
        "memory": memory,
        "short_sums": {"count": len(short), "seconds": waits, "slow_seconds": slow_waits},
        "long_sums": {"count": len(long), "bytes": sum_up(long).sent_bytes, "seconds": sums},
        "cases": {
            name: {
                "seconds": alone + together,
                "images_per_second": batch_size / (alone + together),
                "efficiency": alone / (alone + together),
            }
            for name, (alone, together) in cases.items()
        },
    }


def format_estimate(document: dict[str, Any]) -> str:
    """The parts of a step, then a row for each assumption."""
    chips, each = document["chips"], document["batch_size"] // document["chips"]
    found, program = document["estimate"], document["program"]
    short, long = found["short_sums"], found["long_sums"]
    hosts = math.ceil(chips / document["chips_per_host"])
    head = (
        f"{document['network']} ({document['config']}), training, {document['dtype']}, batch "
        f"{format_count(document['batch_size'])} in all, {each} a chip, on {document['slice']}: an estimate"
    )
    parts = [
        ("arithmetic", f"{program['flops'] / 1e12:.3g} T operations", format_seconds(found["arithmetic"])),
        ("memory", f"{format_bytes(program['accessed_bytes'])} read and written", format_seconds(found["memory"])),
        (
            "short sums",
            f"{short['count']} of them",
            f"{format_seconds(short['seconds'])} to {format_seconds(short['slow_seconds'])}",
        ),
        (
            "long sums",
            f"{long['count']}, {format_bytes(long['bytes'])} sent",
            format_seconds(long["seconds"]),
        ),
    ]
    rows = [
        (
            name,
            format_seconds(case["seconds"]),
            format_rate(case["images_per_second"]),
            format_rate(case["images_per_second"] / chips),
            format_rate(case["images_per_second"] / hosts),
            f"{100 * case['efficiency']:.0f}%",
        )
        for name, case in found["cases"].items()
    ]
    header = ("", "a step", "images/s", "a chip", "a host", "efficiency")
    hbm = (
        f"HBM: {format_bytes(program['memory_bytes'])} of {format_bytes(document['hbm_bytes'])} a chip; hosts: {hosts}"
    )
    note = (
        "limit: arithmetic at its peak hides memory and long sums. roofline: the slower of arithmetic and memory\n"
        "does. in turn: nothing hides anything, and a hop takes 2.7 times as long. docs/scaling.md: the assumptions."
    )
    table = format_table(("a chip, a step", "", ""), parts, "llr")
    return f"{head}\n\n{table}\n{hbm}\n\n{format_table(header, rows, 'lrrrrr')}\n\n{note}"
