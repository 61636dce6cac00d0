# SPDX-License-Identifier: Apache-2.0
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cnnjax.errors import RunError
from cnnjax.report import confusion as confusion_plot
from cnnjax.report import curves, figure, mistakes

ODD_NAMES = (
    "$5_bill $x^2$",
    "a_very_long_name_that_fits_nowhere_" * 4,
    "кошка 猫",
    "two\nlines",
    "100% \\frac{1}{",
    "",
)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert max(len(image.convert("RGB").getcolors(2**24) or ()), 0) > 1  # something is drawn
        return image.size


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def curve_records(points: int, evaluations: int, *, axis: str = "epoch") -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    records = []
    for step in range(1, points + 1):
        loss = 2 * math.exp(-5 * step / points) * math.exp(rng.normal(0, 0.2))
        rest = {"accuracy": math.exp(-loss), "learning_rate": 0.1, "gradient_norm": 1 + loss}
        records.append({"step": step, axis: step / 10, "split": "train", "loss": loss, **rest})
    for i in range(1, evaluations + 1):
        step = i * points // evaluations
        record = {"step": step, axis: step / 10, "split": "validation", "loss": 1 / i, "accuracy": 1 - 0.5 / i}
        records += [record, {**record, "split": "test"}]
    return records


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures as they are saved, to look into."""
    figures: list[Any] = []
    save = figure.Figure.savefig
    monkeypatch.setattr(figure.Figure, "savefig", lambda f, *a, **k: (figures.append(f), save(f, *a, **k))[1])
    return figures


@pytest.mark.parametrize(("points", "evaluations"), [(1, 0), (3, 1), (3000, 160)])
def test_curves_of_any_length(tmp_path, points, evaluations):
    curves.plot_curves(curve_records(points, evaluations), tmp_path / "c.png", title="LeNet-5 on digits")
    assert size(tmp_path / "c.png") == (1120, 780)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"step": 1, "split": "train", "loss": math.nan}],
        [{"step": 1, "split": "validation", "accuracy": math.inf}],
        [{"step": 1, "split": "test", "loss": 0.0}],
        [{"step": s, "split": "train", "loss": 10.0**-s, "seconds": 1.0} for s in range(9)],
    ],
)
def test_curves_with_much_missing(tmp_path, records):
    curves.plot_curves(records, tmp_path / "c.png", title="")
    assert size(tmp_path / "c.png") == (1120, 560)


def test_curves_show_each_panel_split_and_the_best_of_validation(tmp_path, drawn):
    records = curve_records(200, 4)
    records[-2]["accuracy"] = 0.5  # the last validation is not the best; the test accuracies do not count
    curves.plot_curves(records, tmp_path / "c.png", title="$a_b$")
    (figure,) = drawn
    loss = {line.get_label(): line for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(loss["validation"].get_xydata(), [[5, 1], [10, 1 / 2], [15, 1 / 3], [20, 1 / 4]])
    assert [panel.get_yscale() for panel in figure.axes] == ["log", "linear", "linear", "linear"]
    assert [panel.get_title("left") for panel in figure.axes] == ["Loss", "Accuracy", "Learning rate", "Gradient norm"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["training, running mean", "validation", "test", "best: 83.33%, epoch 15"]
    ring = figure.axes[0].get_lines()[-1]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (15.0, 1 / 3)
    assert figure.get_suptitle() == "$a_b$"


def test_a_loss_of_zero_is_drawn(tmp_path, drawn):
    records = [{"step": s, "split": "train", "loss": loss} for s, loss in ((1, 9.0), (2, 0.1), (3, 0.0))]
    curves.plot_curves(records, tmp_path / "c.png", title="t")
    panel = drawn[0].axes[0]
    assert panel.get_yscale() == "linear" and panel.get_ylim()[0] <= 0
    np.testing.assert_allclose(panel.get_lines()[0].get_ydata(), [9.0, 0.1, 0.0])


def test_without_accuracies_the_lowest_loss_is_best_and_without_validation_nothing(tmp_path, drawn):
    records = [{"step": s, "split": "validation", "loss": loss} for s, loss in ((1, 0.5), (1500, 0.25), (3000, 0.75))]
    curves.plot_curves(records, tmp_path / "c.png", title="t")
    curves.plot_curves([{**r, "split": "test"} for r in records], tmp_path / "c.png", title="t")
    labels = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in drawn]
    assert labels == [["validation", "best: loss 0.25, step 1,500"], ["test"]]


def test_long_curves_are_thinned_to_means(tmp_path, drawn):
    values = np.arange(1201.0)
    thin = curves.thin(values)
    assert len(thin) == 401 and thin[0] == 1.0 and thin[-1] == 1200.0
    np.testing.assert_allclose(curves.running_mean(np.arange(160.0))[[0, 80, 159]], [1.0, 80.0, 158.0])
    curves.plot_curves(curve_records(3000, 160), tmp_path / "c.png", title="t")
    assert all(len(line.get_xdata()) <= curves.MAX_POINTS for panel in drawn[0].axes for line in panel.get_lines())


def confusion(K: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(20 / K, (K, K)) + np.diag(rng.integers(50, 99, K))


@pytest.mark.parametrize("K", [1, 2, 10, 20, 1000])
def test_confusion_of_any_number_of_classes(tmp_path, K, drawn):
    confusion_plot.plot_confusion(confusion(K), [f"class {i}" for i in range(K)], tmp_path / "k.png", title="test")
    panel, bars = drawn[0].axes[:2]
    # However many classes: no more cells than are seen, a shape a class only where it has its number beside it.
    assert panel.get_images()[0].get_array().shape == (min(K, 250), min(K, 250))
    few = K if K <= 20 else 0
    assert (len(panel.texts), len(bars.texts)) == (np.count_nonzero(confusion(K)) if few else 0, few)
    assert len(bars.patches) == (few or 1) and len(panel.get_xticks()) == len(panel.get_yticks()) <= 50
    width, height = {1: (4.4, 3.7), 2: (4.4, 3.7), 10: (5.8, 5.1), 20: (7.0, 6.3)}.get(K, (7.0, 6.8))
    np.testing.assert_allclose(size(tmp_path / "k.png"), (200 * width, 200 * height), atol=1)


def test_confusion_is_row_normalised_with_counts_and_accuracies(tmp_path, drawn):
    matrix = np.array([[3, 1, 0], [2, 6, 0], [0, 0, 0]])
    confusion_plot.plot_confusion(matrix, ["cat", "dog", "owl"], tmp_path / "k.png", title="three classes")
    panel, bars = drawn[0].axes[:2]
    shares = panel.get_images()[0].get_array()
    np.testing.assert_allclose(shares[:2], [[0.75, 0.25, 0], [0.25, 0.75, 0]])
    assert shares.mask[2].all() or np.isnan(np.asarray(shares)[2]).all()  # no examples: no share, not 0
    counts = {text.get_position(): text.get_text() for text in panel.texts}
    assert counts == {(0, 0): "3", (1, 0): "1", (0, 1): "2", (1, 1): "6"}  # position: (guess, truth)
    assert [text.get_text() for text in bars.texts] == ["75.0%", "75.0%", "n = 0"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["cat", "dog", "owl"]
    assert panel.get_ylabel() == "truth" and panel.yaxis_inverted()


def test_of_many_classes_some_are_named_and_the_commonest_confusions_listed(tmp_path, drawn):
    matrix = 5 * np.eye(100, dtype=int)
    matrix[3, 7], matrix[8, 2] = 4, 9
    confusion_plot.plot_confusion(matrix, [f"class {i}" for i in range(100)], tmp_path / "k.png", title="test")
    panel, _, below = drawn[0].axes[:3]
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names[:2] == ["class 0", "class 3"] and 20 < len(names) < 50
    assert not panel.texts
    assert below.texts[0].get_text() == "9 × class 8 taken for class 2\n4 × class 3 taken for class 7"


def test_a_thousand_classes_keep_single_confusions_visible():
    share = np.zeros((1000, 1000))
    share[5, 998], share[4, 997] = 0.5, 0.25
    pooled = confusion_plot._pool(share, 4)
    assert pooled.shape == (250, 250) and pooled[1, 249] == 0.5 and pooled.sum() == 0.5


@pytest.mark.parametrize(
    ("n", "shape"), [(1, (8, 8, 1)), (7, (28, 28, 1)), (25, (32, 32, 3)), (4, (300, 100, 3)), (2, (20, 300, 1))]
)
def test_mistakes_of_any_shape(tmp_path, n, shape, drawn):
    images = np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)
    names = [ODD_NAMES[i % len(ODD_NAMES)] for i in range(n)]
    mistakes.plot_mistakes(images, names, names[::-1], [0.5] * n, tmp_path / "m.png", title="test", total=99)
    (panel,) = drawn[0].axes  # one for all pictures: axes of their own are what makes a figure slow
    assert (len(panel.get_images()), len(panel.texts)) == (n, 4 + 3 * n)
    columns, rows = {25: (5, 5), 7: (3, 3), 4: (3, 2)}.get(n, (3, 1))
    aspect = min(max(shape[0] / shape[1], 0.5), 2)
    expected = (0.14 + 1.34 * columns, 0.58 + rows * (1.2 * aspect + 0.48))
    np.testing.assert_allclose(size(tmp_path / "m.png"), 200 * np.array(expected), atol=1)


def test_small_pictures_are_shown_pixel_by_pixel(tmp_path):
    image = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)
    mistakes.plot_mistakes(image[None], ["cat"], ["dog"], [0.9], tmp_path / "m.png", title="t", total=1)
    # 1.2 inches a picture, its upper left corner 0.14 and 0.58 inches from the figure's: 240, 28 and 116 pixels.
    shown = pixels(tmp_path / "m.png")[116:356, 28:268]
    for row in range(2):
        for column in range(2):
            quarter = shown[120 * row + 3 : 120 * row + 117, 120 * column + 3 : 120 * column + 117]
            assert (quarter == image[row, column]).all()


def test_gray_pictures_keep_their_grays(tmp_path):
    image = np.full((1, 8, 8, 1), 100, np.uint8)  # alone it would fill the range of an automatic scale
    mistakes.plot_mistakes(image, ["cat"], ["dog"], [0.9], tmp_path / "m.png", title="t", total=1)
    assert (pixels(tmp_path / "m.png")[200, 100] == 100).all()


@pytest.mark.parametrize(
    ("n", "total", "text"),
    [
        (0, 0, "no mistakes"),
        (1, 1, "the only mistake: "),
        (3, 3, "all 3 mistakes: "),
        (3, 1234, "the worst 3 of 1,234 mistakes: "),
    ],
)
def test_mistakes_say_how_many_there_are(tmp_path, drawn, n, total, text):
    images = np.zeros((n, 8, 8, 1), np.uint8)
    mistakes.plot_mistakes(images, ["cat"] * n, ["dog"] * n, [0.987] * n, tmp_path / "m.png", title="t", total=total)
    texts = [artist.get_text() for artist in drawn[0].axes[0].texts]
    assert texts[:2] == ["t", text]
    assert texts[4:7] == (["cat", "dog", "98.7%"] if n else [])


def test_odd_names_are_drawn_as_they_are(tmp_path, drawn):
    K = len(ODD_NAMES)
    confusion_plot.plot_confusion(confusion(K), ODD_NAMES, tmp_path / "k.png", title=ODD_NAMES[0])
    labels = drawn[0].axes[0].get_yticklabels()
    assert labels[0].get_text() == "$5_bill $x^2$" and not labels[0].get_parse_math()
    assert labels[1].get_text().startswith("a_very") and "…" in labels[1].get_text()
    assert figure.literal("two\nlines \x00") == "two\\nlines \\x00"
    assert figure.literal("e\u0301te\u0301 кошка") == "été кошка"
    assert figure.literal("\U0010fffd") == "\\U0010fffd"  # of private use: in no font


def test_control_characters_are_told_even_if_a_font_has_them(monkeypatch):
    monkeypatch.setattr(figure, "_fonts", lambda: ((), frozenset(map(ord, "a\n"))))
    assert figure.literal("a\na") == "a\\na"


def test_shorten_keeps_both_ends_and_the_width():
    text = "American Staffordshire terrier"
    short = figure.shorten(text, 7, 0.8)
    start, end = short.split("…")
    assert text.startswith(start) and text.endswith(end) and len(start) >= len(end) > 3
    assert figure.shorten(text, 7, 3.0) == text
    assert figure.shorten(text, 7, 0.0) == "A…"


def test_the_users_style_is_neither_used_nor_changed(tmp_path, monkeypatch):
    curves.plot_curves(curve_records(5, 1), tmp_path / "a.png", title="t")
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30)
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    curves.plot_curves(curve_records(5, 1), tmp_path / "b.png", title="t")
    assert matplotlib.rcParams["font.size"] == 30 and matplotlib.rcParams["text.usetex"]
    assert (pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")).all()


def test_a_figure_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        curves.plot_curves([], tmp_path / "file" / "c.png", title="t")
