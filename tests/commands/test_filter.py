# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.commands import main
from cnnjax.commands.filter import parse_kernel
from cnnjax.layers import KERNELS, apply_filter


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)).save(path)
    return path


def run(capsys, *argv) -> tuple[int, str, str]:
    code = main(["filter", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_writes_the_picture_and_the_sheet(capsys, picture: Path, tmp_path: Path):
    code, out, _ = run(capsys, picture, "--kernel=sharpen", f"--workdir={tmp_path}/new")
    written = [tmp_path / "new/photo_sharpen.png", tmp_path / "new/photo_sharpen_sheet.png"]
    assert code == 0 and out.splitlines() == [str(path) for path in written]
    filtered = np.asarray(Image.open(written[0]))
    np.testing.assert_array_equal(filtered, apply_filter(np.asarray(Image.open(picture)), "sharpen"))
    sheet = np.asarray(Image.open(written[1]).convert("RGB"))
    assert sheet.shape[1] > 2 * sheet.shape[0] / 3 and len(np.unique(sheet)) > 100


def test_own_numbers_on_a_gray_picture(capsys, tmp_path: Path):
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    out = tmp_path / "twice.bmp"
    code, _, _ = run(capsys, tmp_path / "gray.png", "--kernel=0,0,0;0,2,0;0,0,0", f"--out={out}")
    assert code == 0 and (tmp_path / "twice_sheet.png").exists()
    np.testing.assert_array_equal(np.asarray(Image.open(out)), 2 * gray)


def test_kernels_are_read_as_rows():
    assert parse_kernel("0,-1,0;-1,5,-1;0,-1,0") == KERNELS["sharpen"]
    assert parse_kernel(" 1/9, 1/9 ; .5,-1e1;") == ((1 / 9, 1 / 9), (0.5, -10))
    assert parse_kernel("2") == ((2,),)


def test_the_list_holds_every_kernel(capsys):
    code, out, _ = run(capsys, "--list")
    assert code == 0 and set(KERNELS) <= set(out.split()) and "1/9  1/9  1/9" in out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--kernel=sharpen"], 2, "no picture given"),
        (["PICTURE"], 2, "no kernel given; add --kernel=NAME, one of box_blur"),
        (["PICTURE", "--kernel=sharpn"], 2, "unknown kernel 'sharpn'; did you mean 'sharpen'?"),
        (["PICTURE", "--kernel="], 2, "no kernel given"),
        (["PICTURE", "--kernel=1,2;3"], 2, "--kernel has rows of 2, 1 numbers"),
        (["PICTURE", "--kernel=1,x;3,4"], 2, "--kernel has 'x' where a number must be"),
        (["PICTURE", "--kernel=1,,2"], 2, "--kernel has '' where a number must be"),
        (["PICTURE", "--kernel=nan,1"], 2, "--kernel has 'nan' where a number must be"),
        (["PICTURE", "--kernel=1/0,1"], 2, "--kernel has '1/0' where a number must be"),
        (["PICTURE", "--kernel=" + ";".join("1" * 151)], 2, "the kernel is 151x1 and the picture 150x200 pixels"),
        (["PICTURE", "--kernel=sharpen", "--edge=wrap"], 2, "unknown edge 'wrap'"),
        (["PICTURE", "--kernel=sharpen", "--out=x.txt"], 2, "--out is x.txt; its name must end in one of .png"),
        (["PICTURE", "--kernel=sharpen", "--out=PICTURE"], 2, "would be overwritten"),
        (["/nowhere.png", "--kernel=sharpen"], 1, "no picture at /nowhere.png"),
        ([__file__, "--kernel=sharpen"], 1, "not a picture in a format of"),
    ],
)
def test_wrong_usage_is_one_line(capsys, picture: Path, argv, code, message):
    before = picture.read_bytes()
    got, out, err = run(capsys, *(token.replace("PICTURE", str(picture)) for token in argv))
    assert got == code and message in err and out == ""
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert picture.read_bytes() == before and list(picture.parent.iterdir()) == [picture]
