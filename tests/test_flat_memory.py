# SPDX-License-Identifier: Apache-2.0
"""Streaming takes no more memory for ten times the pictures, nor with time. In processes of their own, as run.py's."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
FEW, MANY = 2_000, 20_000
PROGRAM = """
import sys
from pathlib import Path
from cnnjax.host_memory import keep_freed_memory
keep_freed_memory()
from cnnjax.data import load_dataset
from cnnjax.data.streams import train_stream
from cnnjax.config import load_config

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

overrides = ["data.source=folder:" + sys.argv[1], "data.image_size=(64,64)", "data.stream=true",
    "data.test_fraction=0.01", "augment.crop_area=(0.2,1.0)", "data.batch_size=50"]
config = load_config("experiments/default.py", [f"--config.{each}" for each in overrides])
stream = train_stream(config, load_dataset(config.data).splits["train"])
for step in range(int(sys.argv[2]) // 50):
    stream.items(step, 1)
    if (step + 1) * 50 % 10_000 == 0:
        print((step + 1) * 50, resident() >> 20, flush=True)
stream.close()
"""


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """2,000 and 20,000 pictures in two classes: links to 20 of 160x120 pixels."""
    draw = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(draw.integers(0, 256, (120, 160, 3), np.uint8)).save(tmp_path / f"{i}.jpg")
    for count in (FEW, MANY):
        for label in ("cat", "dog"):
            (tmp_path / str(count) / label).mkdir(parents=True)
            for i in range(count // 2):
                os.link(tmp_path / f"{i % 20}.jpg", tmp_path / str(count) / label / f"picture-{i:06}.jpg")
    return tmp_path / str(FEW), tmp_path / str(MANY)


def resident(folder: Path, pictures: int) -> list[int]:
    """MiB of a process after each 10,000 of so many pictures."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(pictures)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return [int(line.split()[1]) for line in told.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")
def test_memory_grows_neither_with_the_set_nor_with_time(sets: tuple[Path, Path]):
    few, many = (resident(folder, 40_000) for folder in sets)
    print(f"MiB after each 10,000 pictures: {few} of {FEW:,} files, {many} of {MANY:,} files")
    # Pictures of 64x64 would take 12 KiB each: 210 MiB more for the 18,000 more files.
    assert max(few) - few[0] < 24 and max(many) - many[0] < 24
    assert many[-1] - few[-1] < 24
