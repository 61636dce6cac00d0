# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation: reliability, and accuracy under corruptions."""

from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter

from cnnjax.report.figure import BLUE, GREEN, ORANGE, RED, figure, percent, shorten

_COLORS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#999999", "#F0E442")


def plot_corruptions(found: dict[str, Any], path: Path, *, title: str) -> None:
    """A curve a kind over the strengths, 0 the pictures as they are, with 95% intervals."""
    with figure(path, 5.2, 3.2) as drawn:
        panel = drawn.subplots()
        for (kind, each), color in zip(found["kinds"].items(), _COLORS, strict=False):
            y = [found["clean"], *each["accuracy"]]
            low, high = zip(*each["interval"], strict=True)
            panel.plot(range(len(y)), y, "o-", color=color, label=kind.replace("_", " "))
            panel.fill_between(range(1, len(y)), low, high, color=color, alpha=0.15, linewidth=0)
        panel.axhline(found["clean"], color="#888888", linewidth=0.8, linestyle=":")
        panel.set(xlabel="strength", ylabel="accuracy")
        panel.yaxis.set_major_formatter(FuncFormatter(percent))
        drawn.legend(loc="outside right upper")
        drawn.suptitle(shorten(title, 9, 5.0, "bold"), fontweight="bold")


def plot_reliability(found: dict[str, Any], path: Path, *, title: str) -> None:
    """How often the network is right where it says it is sure: before and after the temperature, and the counts."""
    with figure(path, 5.6, 3.4) as drawn:
        panels = drawn.subplots(2, 2, sharex=True, sharey="row", height_ratios=[3, 1])
        after = f"temperature {found['temperature']:.2f}"
        for column, (name, words) in enumerate((("before", "as it is"), ("after", after))):
            rows = found[name]["reliability"]
            place = [row["from"] for row in rows]
            width = rows[0]["to"] - rows[0]["from"]
            top, bottom = panels[0, column], panels[1, column]
            top.bar(place, [row["accuracy"] or 0 for row in rows], width, align="edge", color=BLUE, edgecolor="white")
            sure = [(row["confidence"], row["accuracy"]) for row in rows if row["accuracy"] is not None]
            for confidence, accuracy in sure:
                top.plot([confidence, confidence], [accuracy, confidence], color=RED, linewidth=1.2)
            top.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=":")
            top.set_title(f"{words}: ECE {100 * found[name]['ece']:.2f}%, nll {found[name]['nll']:.4f}", loc="left")
            bottom.bar(place, [row["num_examples"] for row in rows], width, align="edge", color="#BBBBBB")
            bottom.set(xlabel="probability given", xlim=(0, 1))
            bottom.xaxis.set_major_formatter(FuncFormatter(percent))
        panels[0, 0].set_ylabel("share right")
        panels[0, 0].yaxis.set_major_formatter(FuncFormatter(percent))
        panels[1, 0].set_ylabel("images")
        drawn.suptitle(shorten(title, 9, 5.4, "bold"), fontweight="bold")


def plot_ablation(document: dict[str, Any], path: Path, *, title: str) -> None:
    """A row a setting: the mean with its standard deviation over seeds, and a dot a run."""
    rows = [each for each in document["settings"] if each["mean"] is not None]
    metric, names = document["metric"], [each["name"].replace("_", " ", 1) for each in rows]
    colors = {"none": "#888888", "only": BLUE, "without": ORANGE, "all": GREEN}
    with figure(path, 5.2, 0.9 + 0.26 * len(rows)) as drawn:
        panel = drawn.subplots()
        for place, (each, name) in enumerate(zip(rows, names, strict=True)):
            color = colors[name.split(" ")[0]]
            spread = each["std"] if each["std"] is not None else 0.0
            panel.errorbar(each["mean"], place, xerr=spread, fmt="D", color=color, capsize=2.5, linewidth=1.2)
            panel.plot(
                each["values"], [place + 0.18] * len(each["values"]), "o", color=color, alpha=0.45, markersize=2.5
            )
        for name in ("none", "all"):
            if name in names:
                panel.axvline(rows[names.index(name)]["mean"], color=colors[name], linewidth=0.7, linestyle=":")
        panel.set_yticks(range(len(rows)), [shorten(name, 7.5, 1.6) for name in names])
        panel.invert_yaxis()
        panel.set_xlabel(f"{document['split']} {metric}; diamond: mean ± standard deviation over seeds, dot: a run")
        if metric.endswith("accuracy"):
            panel.xaxis.set_major_formatter(FuncFormatter(percent))
        drawn.suptitle(shorten(title, 9, 5.0, "bold"), fontweight="bold")
