# SPDX-License-Identifier: Apache-2.0
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cnnjax.architectures.page import make_document, make_page
from cnnjax.architectures.points import Panel, read_published
from cnnjax.architectures.runs import read_runs
from cnnjax.commands import main
from cnnjax.report.environment import write_json
from cnnjax.types import Config
from cnnjax.workdir import DatasetInfo, begin

DIGITS = tuple(map(str, range(10)))


@pytest.fixture
def a_run(tiny, tmp_path: Path):
    """`a_run(name, accuracy, ...)`: the folder of a run that has ended, without having been trained."""

    def make(name: str, accuracy: float | None, *overrides: str, data: str = "mnist", labels=DIGITS) -> Path:
        config: Config = tiny(*overrides)
        begin(tmp_path / name, config, DatasetInfo(data, labels, (28, 28, 1), {"train": 9, "test": 9}))
        test = {"loss": 0.5} | ({} if accuracy is None else {"accuracy": accuracy})
        write_json(tmp_path / name / "results.json", {"step": 1234, "last": {"validation": test, "test": test}})
        return tmp_path / name

    return make


def numbers(folder: Path) -> dict[str, dict]:
    return {panel["key"]: panel for panel in json.loads((folder / "compare.json").read_text())["panels"]}


def test_runs_and_published_networks_on_one_picture(a_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, other = a_run("mine", 0.98), a_run("</script><b>$x_1$", 0.9, data="pets", labels=("a", "b"))
    assert main(["compare", f"--workdir={tmp_path / 'out'}", str(run), str(other)]) == 0
    paths = [Path(line.split("  ")[0]) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == ["compare.png", "compare.svg", "compare.html", "compare.json"]
    panels = numbers(tmp_path / "out")
    assert list(panels) == ["imagenet", "cifar10", "mnist", "usps", "set4"]
    (mine,) = [point for point in panels["mnist"]["points"] if point["kind"] == "run"]
    assert (mine["name"], mine["accuracy"], mine["seconds"]) == ("mine", 0.98, None)
    # 28 * 28 * 8 + 8 * 10 multiply-adds, and the biases of 8 and 10 units.
    assert (mine["macs"], mine["params"]) == (6352, 6370)
    assert "test split of mnist at step 1,234" in mine["source"] and str(run) in mine["source"]
    page = paths[2].read_text()
    assert page.count("</script>") == 2 and "<b>" not in page  # the page's own two
    assert not re.search(r"(src|href)=[\"']?(http|//)", page)
    assert json.loads(page.split('id="data">')[1].split("</script>")[0])["panels"][4]["points"][0]["accuracy"] == 0.9


def test_seeds_become_one_bubble_with_its_spread(a_run):
    runs = [a_run(f"s{seed}", accuracy, f"seed={seed}") for seed, accuracy in ((0, 0.96), (1, 0.98))]
    other = a_run("other", 0.97, "optimizer.learning_rate=0.5")
    points, left_out = read_runs([*runs, other, runs[0]])
    assert not left_out
    assert [(point.name, point.repeats) for _, _, point in points] == [("s0 (n=2)", 2), ("other", 1)]
    seeds, single = points[0][2], points[1][2]
    assert seeds.accuracy == pytest.approx(0.97) and seeds.spread == pytest.approx(0.0141421, rel=1e-5)
    assert single.spread is None


def test_what_cannot_be_compared_is_left_out_in_a_line_each(a_run, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    good, no_accuracy, unfinished, broken = (a_run(name, None if name == "b" else 0.9) for name in "abcd")
    (unfinished / "results.json").unlink()
    (broken / "results.json").write_text("[]")
    gone = a_run("gone", 0.9, "model.name=/nowhere/net.py:net")
    (tmp_path / "free.py").write_text(
        "from cnnjax.types import Model\n"
        "def free(*, num_classes):\n"
        "    apply = lambda params, state, image, *, train, key=None: ({'logits': image.mean((1, 2, 3))}, state)\n"
        "    return Model(lambda key, image: ({}, {}), apply)\n"
    )
    free = a_run("free", 0.9, f"model.name={tmp_path}/free.py:free")
    arguments = [str(path) for path in (good, no_accuracy, unfinished, broken, gone, free, tmp_path / "nothing")]
    assert main(["compare", f"--workdir={tmp_path / 'out'}", "--only=mnist", *arguments]) == 0
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("left out: ")]
    for line, part in zip(
        lines,
        (
            "only classifiers are compared",
            "written when training ends",
            "cannot read",
            "holds no run",
            "no file",
            "no multiply-adds",
        ),
        strict=True,
    ):
        assert part in line and "\n" not in line
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert len(written["left_out"]) == 6 and list(numbers(tmp_path / "out")) == ["mnist"]


def test_time_is_measured_for_each_network_shown(
    a_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    timed = []

    def seconds(model, image_shape, batch_size):
        timed.append((image_shape, batch_size))
        return 0.001 * len(timed)

    monkeypatch.setattr("cnnjax.architectures.timing.seconds_per_image", seconds)
    flags = ["--only=usps,runs", "--time", "--batch_size=32"]
    assert main(["compare", f"--workdir={tmp_path}/out", *flags, str(a_run("mine", 0.9))]) == 0
    assert "compare_time.svg" in capsys.readouterr().out
    panels = numbers(tmp_path / "out")
    assert list(panels) == ["mnist", "usps"]
    # LeNet-5 stands there twice, and is timed once.
    assert [point["seconds"] for point in panels["mnist"]["points"]] == [0.001, 0.002, 0.003, 0.004, 0.004, 0.005]
    assert len(timed) == 6 and {batch for _, batch in timed} == {32}
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["timing"]["batch_size"] == 32


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 2, "no workdir given"),
        (["--workdir=OUT", "--batch_size=0"], 2, "--batch_size is 0"),
        (["--workdir=OUT", "--only=mnits"], 2, "did you mean 'mnist'"),
        (["--workdir=OUT", "--only=runs"], 2, "no RUN is given"),
        (["--workdir=OUT", "nothing"], 1, "nothing holds no run"),
        (["--workdir=OUT", "nothing", "neither"], 1, "none of the 2 runs"),
    ],
)
def test_wrong_usage_is_one_line(
    flags: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["compare", *(flag.replace("OUT", str(tmp_path)) for flag in flags)]) == code
    out, err = capsys.readouterr()
    assert not out and message in err and err.count("\n") == 1


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("width", [500, 1200])
def test_the_page_draws_in_a_browser(width: int, tmp_path: Path):
    sets, published = read_published()
    panels = [Panel(key, known.title, known.accuracy, tuple(published[key])) for key, known in sets.items()]
    # Its last lines choose a bubble, as a click does, and put what was drawn into the title.
    probe = (
        "<script>choose(0);"
        " const boxes = [...document.querySelectorAll('text.name')].map((t) => t.getBoundingClientRect());"
        "const clash = boxes.filter((a, i) => boxes.some((b, j) => j > i && overlap({x: a.x, y: a.y, w: a.width - 2,"
        " h: a.height - 3}, {x: b.x, y: b.y, w: b.width - 2, h: b.height - 3}))).length;"
        "document.title = [document.querySelectorAll('.bubble').length, boxes.length, clash,"
        " document.querySelectorAll('tbody tr').length, document.documentElement.scrollWidth <= innerWidth,"
        " document.getElementById('detail').textContent].join('|');</script></body>"
    )
    (tmp_path / "page.html").write_text(make_page(make_document(panels, None, ())).replace("</body>", probe))
    assert BROWSER is not None
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [*command, profile, "--enable-logging=stderr", f"file://{tmp_path / 'page.html'}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    bubbles, names, clashes, rows, fits, detail = title[1].split("|")
    assert (bubbles, clashes, rows, fits) == ("30", "0", "30", "true")
    assert int(names) >= (26 if width == 1200 else 8)
    assert detail.startswith("AlexNet") and "59.3%" in detail and "724,406,816" in detail
