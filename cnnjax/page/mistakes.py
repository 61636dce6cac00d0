# SPDX-License-Identifier: Apache-2.0
"""Where a classifier goes wrong: confusion matrix, classes one by one, the worst mistakes, and calibration."""

import math
from collections.abc import Sequence

import numpy as np

from cnnjax.metrics import Evaluation, confusion_matrix
from cnnjax.page.charts import reliability
from cnnjax.page.document import Section, note
from cnnjax.page.html import Html, element, join, scroller, table
from cnnjax.page.pictures import data_uri, reduced
from cnnjax.protocols.calibration import Calibration, calibrate
from cnnjax.types import Dataset

NUM_MISTAKES = 24
_MAX_CELLS = 25  # classes: up to here the matrix is a table of counts, beyond it a picture
_MAX_PIXELS = 500  # on a side of that picture
_NUM_PAIRS = 20
_SIDE = 128  # pixels of a mistake


def confusion_section(matrix: np.ndarray, names: Sequence[str], split: str) -> Section:
    """[K,K] counts, row the truth, column the guess, and how each class fares."""
    few = len(names) <= _MAX_CELLS
    words = f"Rows are true classes of the {split} images, columns what they are taken for."
    drawn = _cells(matrix, names) if few else join([_heat(matrix), _pairs(matrix, names)])
    left = element("div", element("h3", "What is taken for what"), drawn)
    right = element("div", element("h3", "Class by class"), _classes(matrix, names))
    return Section("confusion", "Confusion", (note(words), element("div", left, right, class_="columns wide")))


def _cells(matrix: np.ndarray, names: Sequence[str]) -> Html:
    long = max(map(len, names)) > 5
    heads = [element("th", name, scope="col", class_="long" if long else None) for name in names]
    corner = element("th", "truth ↓  guess →", class_="axis", scope="col")
    rows = []
    for truth, name in enumerate(names):
        whole = max(int(matrix[truth].sum()), 1)
        cells = []
        for guess, other in enumerate(names):
            count = int(matrix[truth, guess])
            told = f"{count:,} of {name} taken for {other}" if guess != truth else f"{count:,} of {name} right"
            style = f"--share:{(count / whole) ** 0.4:.3f}" if count else None  # a power below 1 shows what is rare
            right = "right" if guess == truth else None
            cells.append(element("td", f"{count:,}" if count else None, title=told, style=style, class_=right))
        rows.append(element("tr", element("th", name, scope="row", title=name), *cells))
    head, body = element("thead", element("tr", corner, *heads)), element("tbody", *rows)
    caption = element("caption", "Confusion matrix, counts", class_="unseen")
    return scroller(element("table", caption, head, body, class_="confusion"), "Confusion matrix")


def _heat(matrix: np.ndarray) -> Html:
    """The matrix as a picture: the share of each true class, the largest of a block where there are many classes."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    starts = np.arange(0, len(share), math.ceil(len(share) / _MAX_PIXELS))
    share = np.maximum.reduceat(np.maximum.reduceat(share, starts, axis=0), starts, axis=1)
    # One colour, more or less opaque, so that it suits light and dark paper alike.
    pixels = np.zeros((*share.shape, 4), np.uint8)
    pixels[..., :3] = np.where(np.eye(len(share))[..., None] > 0, (0, 128, 200), (220, 100, 20))
    pixels[..., 3] = np.rint(255 * np.sqrt(share))
    told = f"Confusion matrix of {len(matrix)} classes as a picture: the diagonal is what is right"
    return element("img", src=data_uri(pixels), alt=told, class_="heat pixels")


def _pairs(matrix: np.ndarray, names: Sequence[str]) -> Html:
    wrong = matrix - np.diag(matrix.diagonal())
    cells = [divmod(int(cell), len(matrix)) for cell in np.argsort(-wrong, axis=None, kind="stable")[:_NUM_PAIRS]]
    rows = [
        (names[a], names[b], f"{wrong[a, b]:,}", f"{wrong[a, b] / matrix[a].sum():.1%}")
        for a, b in cells
        if wrong[a, b]
    ]
    header = ("class", "taken for", "times", "of the class")
    listed = table(header, rows, "llrr", caption="The commonest confusions")
    return join([element("h3", "The commonest confusions"), listed])


def _classes(matrix: np.ndarray, names: Sequence[str]) -> Html:
    right, examples, guessed = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    rows = []
    for i, name in enumerate(names):
        others = matrix[i].copy()
        others[i] = 0
        worst = int(others.argmax())
        most = f"{names[worst]} ({others[worst]:,})" if others[worst] else "-"
        recall = right[i] / examples[i] if examples[i] else math.nan
        precision = right[i] / guessed[i] if guessed[i] else math.nan
        f1 = 2 * right[i] / (examples[i] + guessed[i]) if examples[i] + guessed[i] else math.nan
        rows.append((name, f"{examples[i]:,}", _with_meter(recall), _percent(precision), _percent(f1), most))
    header = ("class", "images", "accuracy", "precision", "F1", "most taken for")
    tall = len(names) > _MAX_CELLS
    return table(header, rows, "lrrrrl", caption="Accuracy, precision and F1 by class", sortable=True, tall=tall)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def _with_meter(share: float) -> Html:
    if math.isnan(share):
        return join(["-"])
    return join([element("span", element("i", style=f"width:{share:.1%}"), class_="meter"), _percent(share)])


def worst_section(dataset: Dataset, evaluation: Evaluation, split: str) -> Section:
    """The mistakes of the highest loss."""
    assert evaluation.prediction is not None and evaluation.probability is not None
    wrong = np.flatnonzero(evaluation.prediction != evaluation.label)
    worst = wrong[np.argsort(-evaluation.values["loss"][wrong], kind="stable")][:NUM_MISTAKES]
    if not len(worst):
        return Section("mistakes", "Worst mistakes", (note(f"No {split} image is taken for another class."),))
    images, names = dataset.splits[split].image, dataset.label_names
    cards = []
    for i in worst:
        truth, guess = names[evaluation.label[i]], names[evaluation.prediction[i]]
        picture = element(
            "img",
            src=data_uri(reduced(images[i], _SIDE)),
            alt=f"{split} image {i}: {truth}, taken for {guess}",
            class_="pixels" if max(images[i].shape) <= _SIDE else None,
        )
        sure = element("b", f"{evaluation.probability[i]:.0%}")
        guessed = element("div", element("span", guess, title=guess), sure, class_="guess")
        cards.append(element("li", picture, element("span", truth, title=truth), guessed))
    shown = (
        f"All {len(worst)} mistakes"
        if len(worst) == len(wrong)
        else f"The {len(worst)} worst of {len(wrong):,} mistakes"
    )
    words = f"{shown}, by loss. Below each: its class; what it is taken for, and how surely."
    return Section("mistakes", "Worst mistakes", (note(words), element("ul", *cards, class_="mistakes")))


def calibration_section(evaluation: Evaluation) -> Section:
    """Whether the probabilities can be believed."""
    assert evaluation.prediction is not None and evaluation.probability is not None
    found = calibrate(evaluation.probability, evaluation.prediction == evaluation.label)
    words = (
        f"Expected calibration error {found.ece:.2%}: how far, on average, the probability that the network gives its "
        f"answer lies from how often such answers are right. {_tendency(found)}"
    )
    rows = [
        (f"{low:.0%} to {high:.0%}", f"{count:,}", _percent(confidence), _percent(accuracy))
        for low, high, count, confidence, accuracy in zip(
            found.edges[:-1], found.edges[1:], found.count, found.confidence, found.accuracy, strict=True
        )
        if count
    ]
    listed = table(("probability", "images", "mean", "right"), rows, "lrrr", caption="Calibration by bin")
    legend = "Bars reach to how often the network is right; orange: it was surer than that, green: less sure. "
    below = element("figcaption", legend, "The small bars count images, on a square-root scale.", class_="note")
    drawn = element("figure", reliability(found), below)
    return Section("calibration", "Calibration", (note(words), element("div", drawn, listed, class_="columns wide")))


def _tendency(found: Calibration) -> str:
    filled = found.count > 0
    weights = found.count[filled]
    gap = float(np.average(found.confidence[filled] - found.accuracy[filled], weights=weights))
    if abs(gap) < 0.005:
        return "On the whole it is as sure as it should be."
    return f"It is {'surer' if gap > 0 else 'less sure'} than it should be, by {100 * abs(gap):.1f} points."


def matrix_of(evaluation: Evaluation, num_classes: int) -> np.ndarray:
    """Counts [K,K] of a classifier's evaluation."""
    assert evaluation.prediction is not None
    return confusion_matrix(evaluation.label, evaluation.prediction, num_classes)
