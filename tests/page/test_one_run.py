# SPDX-License-Identifier: Apache-2.0
"""The page of a run: whole, light, safe, and there whatever is missing."""

import re
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import RunError
from cnnjax.experiment import build_model
from cnnjax.metrics import Evaluation
from cnnjax.page.network import first_filters
from cnnjax.page.one_run import check_same_data, write_report
from cnnjax.page.record import read_run
from cnnjax.report.environment import write_json
from cnnjax.types import Dataset, Model, Split

VOID = ("img", "meta", "br")


class Outline(HTMLParser):
    """Checks that tags are closed in order; keeps headings, alt texts and what would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.headings, self.images, self.loads = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag == "img":
            self.images.append(values)
        self.loads += [
            v for k, v in attrs if k in ("src", "href", "action") and not (v or "").startswith(("data:", "#"))
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    assert not parsed.open
    return parsed


@pytest.fixture
def full(write_run, dataset, evaluation, tiny):
    """The page of a run with everything at hand."""
    path = write_run("a run", "model.name=simple_cnn")
    model = build_model(tiny("model.name=simple_cnn"), 3)
    params, _ = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return write_report(path, dataset=dataset, evaluation=evaluation, model=model, params=params)


def test_every_section_is_there(full):
    page = full.read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Results",
        "Training",
        "Confusion",
        "Worst mistakes",
        "Calibration",
        "First layer",
        "Network",
        "Data",
        "Config",
        "Time and place",
    ]
    assert len(re.findall('class="chart"', page)) == 5
    assert "83.33%" in page  # 20 of 24
    assert "4 mistakes" in page


def test_the_page_is_well_formed_accessible_and_complete_in_itself(full):
    page = full.read_text()
    parsed = outline(page)
    assert '<html lang="en">' in page and parsed.headings.count("h1") == 1
    assert parsed.loads == []
    assert parsed.images and all(image["alt"] for image in parsed.images)
    assert all(image["src"].startswith("data:") for image in parsed.images)
    assert not re.search(r"url\((?!#)", page) and "@import" not in page
    assert full.stat().st_size < 1_000_000


def test_names_from_the_data_are_escaped(full):
    page = full.read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "tiny &lt;b&gt;set&lt;/b&gt;" in page and "naïve 猫" in page


def test_the_worst_mistake_comes_first(full):
    found = re.findall(r"test image (\d+):", full.read_text())
    assert found == ["23", "22", "21", "20"]


def test_confusion_and_classes_hold_the_counts(full):
    page = full.read_text()
    # Classes of the images 20..23: 2, 0, 1, 2, each taken for the next one.
    assert 'title="2 of naïve 猫 taken for cat &amp; dog"' in page
    assert 'title="7 of cat &amp; dog right"' in page


def test_config_keys_that_differ_are_marked(full):
    page = full.read_text()
    assert re.search(r'<tr class="changed"><th scope="row"><code>model.name</code></th>', page)
    assert re.search(r'<tr><th scope="row"><code>optimizer.momentum</code></th>', page)
    assert "<td><code>simple_cnn</code></td><td><code>mlp</code></td>" in page


def test_a_network_that_cannot_be_read_leaves_its_table_out(write_run, caplog):
    def fail(*_, **__):
        raise ValueError("no shape suits")

    page = write_report(write_run("a"), model=Model(fail, fail)).read_text()
    assert "<h2>Network</h2>" not in page and "no table of layers" in caplog.text


def test_the_files_alone_make_a_page(write_run):
    path = write_run("a", finished=False)
    page = write_report(path, remark="The data are <gone>.").read_text()
    outline(page)
    assert "stopped before its end" in page and "The data are &lt;gone&gt;." in page
    assert "Confusion" not in page and page.count('class="chart"') == 5


def test_a_run_without_a_record_has_a_page(write_run):
    path = write_run("a", finished=False, num_records=0)
    (path / "metrics.jsonl").unlink()
    page = write_report(path).read_text()
    assert "No result yet" in page and "Nothing is recorded yet." in page


def test_values_that_are_not_finite_do_not_break_the_page(write_run):
    path = write_run("a", finished=False, num_records=3)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "split": "train", "epoch": 0.4, "loss": "NaN"}\n')
    charts = re.findall(r'<script type="application/json">(.*?)</script>', write_report(path).read_text())
    assert len(charts) == 5 and not any("NaN" in chart for chart in charts)


def test_a_network_without_classes(write_run, dataset):
    path = write_run("ae", "task.name=reconstruction", "model.name=autoencoder", num_records=20, finished=False)
    summary = {"loss": 0.01, "mse": 0.01, "psnr": 21.5}
    write_json(path / "results.json", {"step": 20, "last": {"test": summary}})
    label = dataset.splits["test"].label
    values = {name: np.where(label == 0, 2 * value, value).astype(np.float32) for name, value in summary.items()}
    evaluation = Evaluation(values, None, None, label)
    page = write_report(path, dataset=dataset, evaluation=evaluation).read_text()
    outline(page)
    assert "21.50 dB" in page and "Class by class" in page and "43.00 dB" in page
    assert "Confusion" not in page and "Calibration" not in page


def test_many_classes_become_a_picture_and_long_tables(write_run, dataset, tmp_path):
    names = tuple(f"class {i}" for i in range(200))
    label = np.arange(400, dtype=np.int32) % 200
    split = Split(np.zeros((400, 8, 8, 3), np.uint8), label)
    many = Dataset("many", names, {"train": split, "test": split})
    prediction = np.where(label == 7, 8, label).astype(np.int32)
    values = {"loss": np.ones(400, np.float32), "accuracy": (prediction == label).astype(np.float32)}
    path = write_run("many")
    info = {"name": "many", "label_names": names, "image_shape": [8, 8, 3], "num_examples": {"train": 400, "test": 400}}
    write_json(path / "dataset.json", info)
    evaluation = Evaluation(values, prediction, np.full(400, 0.9, np.float32), label)
    target = write_report(path, dataset=many, evaluation=evaluation)
    page = target.read_text()
    outline(page)
    assert "Confusion matrix of 200 classes as a picture" in page
    assert '<th scope="row">class 7</th><td>class 8</td><td class="number">2</td><td class="number">100.0%</td>' in page
    assert target.stat().st_size < 1_000_000


def test_views_are_embedded_with_their_captions(write_run):
    from PIL import Image

    path = write_run("a")
    (path / "see").mkdir()
    Image.new("RGB", (4, 4)).save(path / "see/top.png")
    pictures = [
        {"file": "/moved/since/see/top.png", "caption": "What <excites> neuron 3"},
        {"file": "gone.png", "caption": ""},
    ]
    write_json(path / "see/top.json", {"pictures": pictures})
    write_json(path / "see/other.json", {"not": "a view"})
    page = write_report(path).read_text()
    assert "What the network sees" in page and page.count('class="picture"') == 1
    assert 'alt="What &lt;excites&gt; neuron 3"' in page


def test_first_filters_of_convolutions_and_of_dense_layers(tiny):
    from cnnjax.inspect.summary import summarize

    for name, shape in (("simple_cnn", (32, 3, 3, 3)), ("mlp", (8, 8, 8, 3))):
        model = build_model(tiny(f"model.name={name}") if name != "mlp" else tiny(), 3)
        params, _ = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        found = first_filters(summarize(model, (8, 8, 3), name), params, (8, 8, 3))
        assert found is not None and found[1].shape == shape
        if name == "mlp":  # pixel (1, 2), channel 0 is input 1 * 24 + 2 * 3
            kernel = np.asarray(params[found[0]]["kernel"])
            assert found[1][5, 1, 2, 0] == kernel[30, 5]


def test_other_data_are_refused(write_run, dataset):
    run = read_run(write_run("a"))
    check_same_data(run, dataset)
    with pytest.raises(RunError, match="not the set"):
        check_same_data(run, dataset._replace(label_names=("a", "b", "c")))
