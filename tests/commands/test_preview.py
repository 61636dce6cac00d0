# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.commands import main
from cnnjax.commands.preview import draw
from cnnjax.data.order import epoch_order, stream_positions
from cnnjax.types import Config, Dataset, Split
from experiments import default

N, SHAPE = 10, (6, 6, 3)
NAMES = ("cat", "dog", "frog")
PIXELS = np.random.default_rng(0).integers(0, 256, (N, *SHAPE)).astype(np.uint8)
DATASET = Dataset("pets", NAMES, {"train": Split(PIXELS, np.arange(N, dtype=np.int32) % 3)})
ORDER = epoch_order(0, 0, N)


def config(**augment: object) -> Config:
    made: Config = default.get_config()
    made.augment.update(augment)
    made.data.update({"mean": (0.4,), "std": (0.2,)})
    return made


def test_each_row_is_the_image_as_stored_and_its_views():
    images, captions = draw(config(mirror=1.0), DATASET, rows=3, views=2)
    assert images.shape == (9, *SHAPE) and images.dtype == np.uint8
    for row, example in enumerate(ORDER[:3]):
        stored, *views = images[3 * row : 3 * row + 3]
        np.testing.assert_array_equal(stored, PIXELS[example])
        for view in views:
            np.testing.assert_array_equal(view, PIXELS[example][:, ::-1])  # normalised and back, to the bit
        assert captions[3 * row : 3 * row + 3] == [NAMES[example % 3], "epoch 0", "epoch 1"]


def test_views_differ_by_epoch_and_are_clipped():
    images, _ = draw(config(brightness=1.0), DATASET, rows=1, views=6)
    assert len(np.unique(images, axis=0)) == 7
    assert images.min() == 0 and images.max() == 255
    added = images[1:].astype(int) - images[:1]
    assert all((each >= 0).all() or (each <= 0).all() for each in added)  # none has wrapped around


def test_mixed_images_show_both_labels_with_weights():
    images, captions = draw(config(cutmix=1.0), DATASET, rows=N, views=2)
    for row, example in enumerate(ORDER):
        for view in range(2):
            place = view * N + int(np.argmax(epoch_order(0, view, N) == example))
            partner = int(stream_positions(0, place + 1, 1, N)[0][0])  # the next one in the stream
            image, caption = images[3 * row + 1 + view], captions[3 * row + 1 + view]
            pasted = (image != PIXELS[example]).any(axis=2)
            np.testing.assert_array_equal(image[pasted], PIXELS[partner][pasted])
            own, other = NAMES[example % 3], NAMES[partner % 3]
            share = round(100 * float(1 - pasted.mean()))
            lines = caption.split("\n")
            assert lines[0] == f"epoch {view}"
            if own == other or share == 100:
                assert lines[1:] == [f"100% {own}"]
            else:
                assert set(lines[1:]) == {f"{share}% {own}", f"{100 - share}% {other}"}


def test_more_rows_than_images_are_all_images():
    images, captions = draw(config(), DATASET, rows=50, views=1)
    assert len(images) == len(captions) == 2 * N


COMMAND = ["preview", "--config=experiments/default.py", "--config.data.source=synthetic", "--rows=2", "--views=3"]


def test_the_command_writes_a_picture_and_prints_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    flags = ["--config.data.synthetic.num_examples=16", "--config.augment.shift=2"]
    assert main([*COMMAND, f"--workdir={tmp_path / 'new' / 'run'}", *flags]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "new" / "run" / "preview.png"
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size[0] > 4 * 192


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no workdir given"),
        (["--workdir=x", "--rows=0"], "--rows is 0"),
        (["--workdir=x", "--views=-1"], "--views is -1"),
        (["--workdir=x", "--config.augment.mirror=2"], "config.augment.mirror = 2.0"),
        (["--workdir=x", "--config.data.mean=(0.1,0.2)"], "config.data.mean has 2 numbers"),
    ],
)
def test_wrong_usage_is_one_line(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main([*COMMAND, *flags]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err and err.count("\n") == 1
