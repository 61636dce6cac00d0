# SPDX-License-Identifier: Apache-2.0
"""The views that search or move images: dream, invert and shift."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax.errors import UsageError
from cnnjax.see.dream import Dream
from cnnjax.types import Model
from cnnjax.views import dream, invert, shift
from cnnjax.views.subject import Choice, Subject

SIZE = (8, 8, 3)
NAMES = ("square", "$circle", "line")


def apply(params, model_state, image, *, train, key=None):
    del train, key
    maps = jax.nn.relu(jnp.einsum("bhwc,ck->bhwk", image, params["mix"]))
    features = maps.mean(axis=(1, 2))
    return {"logits": features @ params["head"], "features": features, "maps": maps}, model_state


@pytest.fixture
def subject():
    rng = np.random.default_rng(0)
    params = {
        "mix": jnp.asarray(rng.normal(size=(3, 5)), jnp.float32),
        "head": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
    }
    mean, std = np.full((1, 1, 1, 3), 0.5, np.float32), np.full((1, 1, 1, 3), 0.25, np.float32)

    def prepare(image):
        return (jnp.asarray(image, jnp.float32) / 255 - mean) / std

    image, label = rng.integers(0, 256, (24, *SIZE), np.uint8), np.arange(24, dtype=np.int32) % 3
    model = Model(lambda key, image: (params, {}), apply)
    return Subject("a run", model, params, {}, prepare, mean, std, image, label, NAMES, "test")


@pytest.fixture
def choice(subject):
    title = tuple(f"test[{i}]: {NAMES[i]}" for i in range(3))
    return Choice(subject.image[:3], title, subject.label[:3], None, None, None, 2, 0)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(dream, "_STEPS", 8)
    monkeypatch.setattr(invert, "_STEPS", 8)


def check(view, count):
    """Pictures are there, have captions, and the numbers can be written as JSON."""
    assert len(view.pictures) == count
    for path, caption in view.pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > 300
        assert caption
    assert json.loads(json.dumps(view.numbers, allow_nan=False)) == view.numbers


def test_dream_takes_the_classes_and_the_last_map(subject, choice, tmp_path):
    view = dream.draw(subject, choice, tmp_path)
    check(view, 2)
    classes, maps = view.numbers["layers"]["logits"], view.numbers["layers"]["maps"]
    assert [entry["name"] for entry in classes] == list(NAMES)
    assert [(entry["unit"], entry["place"]) for entry in maps] == [
        (unit, place) for place in ("mean", "center") for unit in sorted({entry["unit"] for entry in maps})
    ]
    assert len(maps) == 2 * choice.num
    logits = np.asarray(apply(subject.params, {}, subject.prepare(subject.image), train=False)[0]["logits"])
    for k, entry in enumerate(classes):
        assert entry["highest_real"] == pytest.approx(logits[:, k].max(), rel=1e-5)
        assert entry["highest_image"] == logits[:, k].argmax()
    assert any("maps: " in line for line in view.lines)


def test_dream_takes_the_layer_unit_and_class_named(subject, choice, tmp_path, monkeypatch):
    view = dream.draw(subject, choice._replace(layer="features", unit=3), tmp_path)
    assert [entry["unit"] for entry in view.numbers["layers"]["features"]] == [3]

    def unsought(model, params, model_state, layer, units, *_, **__):
        return Dream(np.zeros((len(units), *SIZE), np.float32), np.zeros(len(units), np.float32), np.zeros((0, 1)))

    monkeypatch.setattr(dream, "dream", unsought)  # what is asked for counts from here on, not what is found
    view = dream.draw(subject, choice._replace(target=1), tmp_path)
    assert [entry["name"] for entry in view.numbers["layers"]["logits"]] == ["$circle"]
    with pytest.raises(UsageError, match="did you mean 'maps'"):
        dream.draw(subject, choice._replace(layer="map"), tmp_path)
    with pytest.raises(UsageError, match="--unit is 9, but features has channels 0 to 4"):
        dream.draw(subject, choice._replace(layer="features", unit=9), tmp_path)


def test_invert_goes_through_the_layers_in_order(subject, choice, tmp_path):
    view = invert.draw(subject, choice, tmp_path)
    check(view, 1)
    assert list(view.numbers["layers"]) == ["maps", "features", "logits"]
    assert view.numbers["layers"]["maps"]["shape"] == [8, 8, 5]
    for about in view.numbers["layers"].values():
        assert len(about["relative_error"]) == len(about["psnr_db"]) == 3
        assert min(about["relative_error"]) > 0 and max(about["relative_error"]) < 1.5
    assert [line.split(":")[0] for line in view.lines] == ["maps", "features", "logits"]
    with pytest.raises(UsageError, match="did you mean 'features'"):
        invert.draw(subject, choice._replace(layer="feature"), tmp_path)


def test_shift_measures_each_layer_under_each_move(subject, choice, tmp_path):
    view = shift.draw(subject, choice, tmp_path)
    check(view, 1)
    assert view.numbers["images"] == 24 and view.numbers["shift"]["amount"] == [0, 1, 2]
    for name, nothing in (("shift", 0), ("rotation", 0), ("scale", 1)):
        moved = view.numbers[name]
        still = moved["amount"].index(nothing)
        assert list(moved["distance"]) == ["input", "maps", "features", "logits"]
        assert moved["agreement"][still] == 1
        for distance in moved["distance"].values():
            assert distance[still] < 1e-4 and max(distance) > 0.1 and len(distance) == len(moved["amount"])
    # 1x1 convolutions and a global mean: a shift moves the maps, but the features by the border alone
    one = {name: distance[1] for name, distance in view.numbers["shift"]["distance"].items()}
    assert one["features"] < one["maps"]
    with pytest.raises(UsageError, match="did you mean 'maps'"):
        shift.draw(subject, choice._replace(layer="map"), tmp_path)


def test_shift_of_a_network_without_logits(subject, choice, tmp_path):
    def headless(params, model_state, image, *, train, key=None):
        return {"latent": image.mean(axis=(1, 2))}, model_state

    view = shift.draw(subject._replace(model=Model(subject.model.init, headless)), choice, tmp_path)
    check(view, 1)
    assert view.numbers["shift"]["agreement"] is None
