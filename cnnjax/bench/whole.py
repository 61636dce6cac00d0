# SPDX-License-Identifier: Apache-2.0
"""The measurement that `run.py bench` makes of whole steps: ours, a peer's by turns, and the device's peak."""

import logging
import resource
import sys
from typing import Any, NamedTuple

import jax

from cnnjax import devices
from cnnjax.architectures.timing import machine
from cnnjax.bench import loop, peers
from cnnjax.bench.batch_size import Trial, best, find_best, with_batch_size
from cnnjax.bench.measure import Side, Spread, interleave, ratio, spread
from cnnjax.bench.peak import SIDES, matrix_product_peak
from cnnjax.bench.report import bottleneck, format_result, spread_json
from cnnjax.bench.subject import Subject, load_subject
from cnnjax.errors import UsageError
from cnnjax.types import Config

logger = logging.getLogger(__name__)
OURS = "cnnjax"
BACKWARD = 3  # a training step's multiply-adds by those of the forward pass: the gradients by input and by kernel


class Options(NamedTuple):
    """How to measure.

    Attributes:
      mode: train, eval or input.
      peer: torch, flax or None.
      rounds: repetitions.
      warmup: steps before them.
      steps: of a round; None: as many as take a second.
      synthetic: make pictures up even where the data are at hand.
      image: HxWxC of made-up pictures.
      num_classes: of made-up pictures.
      examples: made-up pictures; None: enough.
      best_batch: look for the batch size with the highest throughput, for each side by itself.
      cold: compile without the compilation cache.
      peak_sides: of the matrices whose product is the peak; None: by the backend.
    """

    mode: str = "train"
    peer: str | None = None
    rounds: int = 7
    warmup: int = 3
    steps: int | None = None
    synthetic: bool = False
    image: str | None = None
    num_classes: int | None = None
    examples: int | None = None
    best_batch: bool = False
    cold: bool = False
    peak_sides: tuple[int, ...] | None = None


class Measured(NamedTuple):
    """What came of it: the JSON document and the same as text."""

    document: dict[str, Any]
    text: str


def measure(config: Config, name: str, options: Options) -> Measured:
    """Times whole steps of `config`.

    Args:
      config: of any experiment; its batch size is what is timed.
      name: what to call the config.
      options: how.

    Raises:
      UsageError: the network has no twin in the peer, or the mode none.
      RunError: the peer is not installed.
    """
    if options.peer:
        if options.mode not in ("train", "eval"):
            raise UsageError(f"--mode={options.mode} has no peer; --peer is for train and eval")
        peers.check_installed(options.peer)
        config = peers.comparable(config)
    if config.ensemble_size > 1:
        raise UsageError("bench times one network: leave config.ensemble_size at 1; 'run.py ensemble' times several")
    devices.use_compilation_cache()
    devices.set_up(config.train)
    if options.cold:
        jax.config.update("jax_enable_compilation_cache", False)
    subject, theirs, searches = _subjects(config, options)
    ours = _our_side(subject, options)
    others, note = _peer_sides(theirs, options)
    sides = [ours, *others]
    logger.info("compiled; measuring %d rounds", options.rounds)
    first_peak = _peaks(config, options) if options.mode != "input" else {}
    rates = interleave(sides, rounds=options.rounds, warmup=options.warmup, steps=options.steps)
    last_peak = _peaks(config, options) if options.mode != "input" else {}
    peaks = {by: max(first_peak[by], last_peak[by]) for by in first_peak}
    spreads = {side.name: spread(rates[side.name]) for side in sides}
    other = max(others, key=lambda side: spreads[side.name].median, default=None)
    fraction = None
    if peaks:
        macs = subject.macs * (BACKWARD if options.mode == "train" else 1)
        fraction = macs * spreads[OURS].median / max(peaks.values())
    split = ours.split(max(3, options.rounds)) if ours.split else None
    document = {
        "config": name,
        "mode": options.mode,
        "device": machine(),
        "batch_size": ours.batch_size,
        "images_per_second": spread_json(spreads[OURS]),
        "compile_seconds": ours.compile_seconds,
        "peer": None if other is None else _peer_json(options.peer or "", other, others, spreads, note),
        "ratio": None if other is None else spread_json(ratio(rates[OURS], rates[other.name])),
        "peak_fraction": fraction,
        "network": config.model.name,
        "dtype": config.train.dtype,
        "data": subject.data,
        "rounds": options.rounds,
        "batch_search": searches or None,
        "num_devices": jax.device_count(),
        "compiled_from_cache": bool(ours.cached),
        "multiply_adds": subject.macs,
        "params": subject.params,
        "matrix_product_peak": _peak_json(peaks),
        "memory": {
            "temp_bytes": ours.temp_bytes,
            "argument_bytes": ours.argument_bytes,
            "device_peak_bytes": loop.device_memory(),
            "process_peak_bytes": process_peak_bytes(),
        },
        "split": split and {f"{key}_seconds": float(value) for key, value in split._asdict().items()},
        "bottleneck": split and bottleneck(split, options.mode, fraction),
    }
    batch_sizes = {side.name: side.batch_size for side in sides}
    return Measured(document, format_result(document, spreads, batch_sizes))


def process_peak_bytes() -> int:
    """Resident memory of the process at its largest."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _subjects(config: Config, options: Options) -> tuple[Subject, Subject, dict[str, list[dict[str, Any]]]]:
    """What is timed of ours and of the peer's, which differ only in the best batch size, and the searches for it."""

    def load(config: Config) -> Subject:
        made_up = {name: getattr(options, name) for name in ("synthetic", "image", "num_classes", "examples")}
        return load_subject(config, **made_up)

    if not options.best_batch:
        subject = load(config)
        return subject, subject, {}
    logger.info("looking for the best batch size")
    trials = {OURS: find_best(config, lambda config: _our_side(load(config), options))}
    if options.peer:
        largest = max(trial.batch_size for trial in trials[OURS]) if jax.default_backend() == "cpu" else None
        trials[options.peer] = find_best(
            config, lambda config: _peer_sides(load(config), options, quick=True)[0][0], largest=largest
        )
    subjects = [load(with_batch_size(config, best(found))) for found in trials.values()]
    return subjects[0], subjects[-1], {name: [_trial_json(t) for t in found] for name, found in trials.items()}


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {name: value for name, value in trial._asdict().items() if value != ""}


def _our_side(subject: Subject, options: Options) -> Side:
    return loop.make_side(OURS, options.mode, subject.config, subject.model, subject.dataset)


def _peer_sides(subject: Subject, options: Options, *, quick: bool = False) -> tuple[list[Side], str | None]:
    """The ways to run the peer, and what is to be said of one that is missing; with `quick` one way only."""
    if options.peer == "flax":
        model = peers.flax_twin(subject)
        name = "plain Flax, in the same loop"
        return [loop.make_side(name, options.mode, subject.config, model, subject.dataset)], None
    if options.peer == "torch":
        from cnnjax.bench.torch_side import make_sides

        return make_sides(subject, options.mode, compiled=not quick)
    return [], None


def _peer_json(
    peer: str, best: Side, sides: list[Side], spreads: dict[str, Spread], note: str | None
) -> dict[str, Any]:
    import importlib.metadata

    document = {
        "name": peer,
        "version": importlib.metadata.version(peer),
        "how": best.name,
        "batch_size": best.batch_size,
        "images_per_second": spread_json(spreads[best.name]),
        "compile_seconds": best.compile_seconds,
        "ways": {side.name: spread_json(spreads[side.name]) for side in sides},
        "note": note,
    }
    if peer == "torch":
        from cnnjax.bench.torch_side import threads

        document["threads"] = threads()
    return document


def _peaks(config: Config, options: Options) -> dict[str, float]:
    """Multiply-adds a second of large matrix products, by who computes them."""
    dtype, sides = config.train.dtype, options.peak_sides
    peaks = {"jax": matrix_product_peak(dtype, sides)}
    if options.peer == "torch":
        from cnnjax.bench.torch_side import matrix_product_peak as by_torch

        peaks["torch"] = max(by_torch(dtype, side) for side in sides or SIDES.get(jax.default_backend(), (8192,)))
    return peaks


def _peak_json(peaks: dict[str, float]) -> dict[str, Any] | None:
    """The highest, which is what the device can do, and all of them."""
    if not peaks:
        return None
    by = max(peaks, key=lambda name: peaks[name])
    return {"multiply_adds_per_second": peaks[by], "by": by, "all": peaks}
