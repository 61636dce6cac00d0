# SPDX-License-Identifier: Apache-2.0
import base64
import hashlib
import html
import json
import re

import numpy as np

from cnnjax.latent.page import Track, write_page


def track(title: str, seed: int) -> Track:
    rng = np.random.default_rng(seed)
    return Track(title, rng.integers(0, 256, (8, 8, 1), np.uint8), rng.uniform(size=(3, 8, 8, 1)), ("-1", "0", "1"))


def test_the_page_is_whole_and_lets_only_its_own_script_run(tmp_path):
    evil = "</script><script>alert(1)</script>"
    write_page(
        tmp_path / "slider.html",
        title=f"of {evil}",
        lead="lead",
        sweeps=[track("a", 0), track(evil, 1)],
        start=1,
        ends=("less", "more"),
        walk=track("b", 2),
        effect=(["strength", "rate"], [["0", "1%"]]),
        remark="remark",
    )
    page = (tmp_path / "slider.html").read_text()
    held, script = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = html.unescape(page)
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in policy
    assert "http" not in page.replace("http-equiv", "").replace("http_equiv", "")
    data = json.loads(held)
    assert [t["title"] for t in data["sweep"]] == ["a", evil] and len(data["walk"]) == 1
    assert all(len(t["frames"]) == 3 for t in data["sweep"])
    assert data["sweep"][0]["frames"][0]["picture"].startswith("data:image/png;base64,")
    # What the script looks for is there, and what is moved has a name.
    assert all(f'id="{name}"' in page for name in ("sweep", "walk", "frames"))
    for slider in re.findall(r'<input type="range" id="(\w+)"[^>]*>', page):
        assert f'<label for="{slider}">' in page
    assert 'value="1"' in re.findall(r'<input type="range"[^>]*>', page)[0]
    assert page.count('<input type="radio"') == 2 and page.count("</input>") == 0
