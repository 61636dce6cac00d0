# SPDX-License-Identifier: Apache-2.0
"""A measurement as JSON and as text, with the bottleneck in words."""

from typing import Any

from cnnjax.bench.measure import Split, Spread
from cnnjax.report.table import format_bytes, format_count, format_duration, format_table

MUCH = 0.25  # of a step's time: what takes more than this beside the network is named as the bottleneck
NEAR_PEAK = 0.6  # of the matrix-product rate: little is left to be gained


def spread_json(spread: Spread) -> dict[str, float]:
    """As {"median", "min", "max"}."""
    return {name: float(value) for name, value in spread._asdict().items()}


def bottleneck(split: Split, mode: str, peak_fraction: float | None) -> str:
    """What a step waits for most, and what helps against it, in one sentence."""
    total = split.data + split.host + split.compute

    def share(seconds: float) -> str:
        return f"{100 * seconds / total:.0f}% of a step"

    if split.data > MUCH * total and split.data >= split.host:
        return (
            f"data: the host takes {share(split.data)} to make the next rows; keep the set on the device "
            "(config.data.max_resident_gib) or take a larger config.data.batch_size"
        )
    if split.host > MUCH * total:
        several = "several steps in one call (config.train.steps_per_dispatch) or " if mode == "train" else ""
        return (
            f"host: calling the compiled step takes {share(split.host)}; take {several}a larger config.data.batch_size"
        )
    if mode == "input":
        return "gathering and augmenting on the device; drop resampling (rotate, shear, scale, crop_area) to go faster"
    if split.prepare > MUCH * total:
        return (
            f"preparing the images: {share(split.prepare)} goes into gathering, augmentation and normalisation; "
            "drop resampling (rotate, shear, scale, crop_area) first"
        )
    if peak_fraction is None:
        return "compute"
    at = f"compute, at {100 * peak_fraction:.0f}% of the rate of large matrix products"
    if peak_fraction >= NEAR_PEAK:
        return f"{at}: near the limit of this device; a smaller network or a faster device helps, little else"
    return f"{at}; 'run.py profile' names the costliest operations; a larger batch, or bfloat16 on a GPU, may help"


def format_result(result: dict[str, Any], sides: dict[str, Spread], batch_sizes: dict[str, int]) -> str:
    """The text of `bench`: what was measured, a row a side, the ratio, and where the time goes."""
    head = f"{result['network']} ({result['config']}), {result['mode']}, batch {result['batch_size']}, "
    lines = [f"{head}{result['dtype']}, on {result['device']}", f"data: {result['data']}", ""]
    rows = [
        (
            name,
            *(format_rate(value) for value in spread),
            format_seconds(batch_sizes[name] / spread.median),
        )
        for name, spread in sides.items()
    ]
    lines.append(format_table(("", "images/s", "least", "most", "a step"), rows, "lrrrr"))
    peer, ratio = result["peer"], result["ratio"]
    if ratio:
        lines.append(f"ratio to {peer['how']}: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
    if peer and peer.get("note"):
        lines.append(peer["note"])
    for name, trials in (result["batch_search"] or {}).items():
        rates = (
            f"{trial['batch_size']}: {format_rate(trial['images_per_second'])}"
            if trial["images_per_second"]
            else f"{trial['batch_size']}: {trial['reason']}"
            for trial in trials
        )
        lines.append(f"images/s by batch size, {name}: {', '.join(rates)}")
    lines.append("")
    if result["peak_fraction"] is not None:
        peak = result["matrix_product_peak"]
        lines.append(
            f"{100 * result['peak_fraction']:.1f}% of the matrix-product peak, "
            f"{peak['multiply_adds_per_second'] / 1e9:.1f} G multiply-adds a second by {peak['by']} in this run"
        )
    cached = " (from the compilation cache)" if result["compiled_from_cache"] else ""
    lines.append(f"compiled in {format_duration(result['compile_seconds'])}{cached}")
    memory = result["memory"]
    parts = [
        f"{what} {format_bytes(memory[key])}"
        for key, what in (
            ("temp_bytes", "a step's own"),
            ("argument_bytes", "arguments"),
            ("device_peak_bytes", "device, at most"),
            ("process_peak_bytes", "process, at most"),
        )
        if memory[key] is not None
    ]
    lines.append(f"memory: {', '.join(parts)}")
    split = result["split"]
    if split:
        lines.append(
            f"a step by itself: data {format_seconds(split['data_seconds'])}, host "
            f"{format_seconds(split['host_seconds'])}, compute {format_seconds(split['compute_seconds'])} "
            f"(preparing the images {format_seconds(split['prepare_seconds'])} of it)"
        )
        lines.append(f"bottleneck: {result['bottleneck']}")
    return "\n".join(lines)


def format_rate(images_per_second: float) -> str:
    """Three figures at least: 0.512, 12.3, 1,234."""
    if images_per_second >= 100:
        return format_count(round(images_per_second))
    return f"{images_per_second:#.3g}"


def format_seconds(seconds: float) -> str:
    """Three figures of the unit that fits: 45.6 µs, 1.23 ms, 4.56 s."""
    for unit, scale in (("µs", 1e6), ("ms", 1e3), ("s", 1.0)):
        if seconds * scale < 999.5 or unit == "s":
            break
    value = seconds * scale
    return f"{value:,.0f} {unit}" if value >= 99.95 else f"{value:#.3g} {unit}"
