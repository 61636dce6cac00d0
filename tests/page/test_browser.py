# SPDX-License-Identifier: Apache-2.0
"""The pages in a real browser, at two widths and in both themes: drawn, readable, without a word on the console."""

import html
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cnnjax.experiment import build_model
from cnnjax.page.comparison import write_comparison
from cnnjax.page.one_run import write_report

SCRIPTS = Path(__file__).parent
MEASURE, ACT = (SCRIPTS.joinpath(name).read_text() for name in ("measure.js", "act.js"))
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


TELL = """
const report = (found) => {
  if (parent !== window) return parent.postMessage(found, "*");
  const node = document.createElement("output");
  node.id = "found";
  node.textContent = JSON.stringify(found);
  document.body.append(node);
};
"""


def with_script(page: Path, script: str) -> Path:
    """A copy that runs a script of the test's, which the page's own policy would not let it."""
    text = POLICY.sub("", page.read_text())
    copy = page.with_name(f"scripted_{page.name}")
    added = f"<script>{TELL}setTimeout(() => {{\n{script}\n}}, 1000);</script></body>"
    copy.write_text(text.replace("</body>", added))
    return copy


def found_in(dom: str) -> dict:
    found = re.search(r'<output id="found">(.*?)</output>', dom, re.DOTALL)
    assert found, "the test's script did not get to its end"
    return json.loads(html.unescape(found[1]))


@pytest.fixture
def report(write_run, dataset, evaluation, tiny) -> Path:
    path = write_run("a run of a rather long name that has to be broken somewhere", "model.name=simple_cnn")
    model = build_model(tiny("model.name=simple_cnn"), 3)
    params, _ = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return write_report(path, dataset=dataset, evaluation=evaluation, model=model, params=params)


@pytest.fixture
def comparison(write_run, tmp_path) -> Path:
    paths = [write_run(f"run_{i}", f"seed={i}", accuracy=0.8 + i / 50) for i in range(3)]
    return write_comparison([*paths, write_run("other", "data.batch_size=8")], tmp_path / "comparison.html")


@pytest.mark.parametrize("page", ["report", "comparison"])
@pytest.mark.parametrize(("width", "theme"), [(1200, 1), (500, 0)])
def test_a_page_is_drawn_readable_and_quiet(page, width, theme, browse, request):
    path = request.getfixturevalue(page)
    dom, said = browse(path, width, f"--blink-settings=preferredColorScheme={theme}")
    assert said == []
    assert len(re.findall(r"<polyline", dom)) >= 5
    dom, _ = browse(with_script(path, MEASURE), width, f"--blink-settings=preferredColorScheme={theme}")
    found = found_in(dom)
    assert found["width"] == width and found["wide"] <= width and found["outside"] == []
    assert found["words"] == []
    assert len(found["plots"]) == dom.count('class="chart"') and min(found["plots"]) >= 1


def test_a_phone_of_390_pixels_needs_no_sideways_scrolling(report, browse, tmp_path):
    # The browser's window is at least 500 wide: a frame of 390 pixels stands for the phone.
    page = with_script(report, MEASURE)
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body><iframe src="{page.as_uri()}" width="390" height="800" style="border:0"></iframe>'
        f'<script>{TELL}addEventListener("message", (event) => report(event.data));</script></body>'
    )
    found = found_in(browse(frame, 600)[0])
    assert found["width"] == 390 and found["wide"] <= 390 and found["outside"] == []


def test_hover_zoom_legend_keys_and_sorting(report, browse):
    dom, said = browse(with_script(report, ACT), 1200)
    assert said == []
    found = found_in(dom)
    # Nine tenths of a chart of 0.1 to 10 epochs.
    assert re.match(r"epoch (8|9)\.?\d*training0\.03\d*validation0\.0\d*$", found["readout"])
    assert found["gone"] is True
    assert found["before"] != found["zoomed"] and found["after"] == found["before"]
    assert all(float(label) > 3 for labels in found["zoomed"] for label in labels)  # all charts zoom together
    assert found["lines"][0] > found["lines"][1]
    assert found["key"].startswith("epoch")
    numbers = [float(text.rstrip("%")) for text in found["falling"]]
    assert numbers == sorted(numbers, reverse=True) and found["rising"] == found["falling"][::-1]


def test_names_do_not_become_scripts(report, browse):
    dom, said = browse(report, 1200)
    assert "alert(1)" in dom and said == []
    assert not re.search(r"<script[^>]*>\s*alert", dom)
