# SPDX-License-Identifier: Apache-2.0
"""The views saliency, gradcam and occlusion on a small network: files, numbers, captions, and what they refuse."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax.errors import RunError, UsageError
from cnnjax.models import get_model
from cnnjax.report.figure import GREEN, RED
from cnnjax.types import Model
from cnnjax.views import drawing, gradcam, occlusion, saliency
from cnnjax.views.subject import Choice, Subject

SIZE = 12


def subject(name: str = "simple_cnn", **arguments) -> Subject:
    model = get_model(name, arguments, num_classes=3)
    image = np.random.default_rng(0).integers(0, 255, (6, SIZE, SIZE, 3), np.uint8)
    params, state = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    mean, std = np.full((1, 1, 1, 3), 0.5, np.float32), np.full((1, 1, 1, 3), 0.25, np.float32)

    def prepare(image):
        return (jnp.asarray(image, jnp.float32) / 255 - mean) / std

    label = np.array([0, 1, 2, 0, 1, 2], np.int32)
    return Subject("run", model, params, state, prepare, mean, std, image, label, ("a", "b_$", "c"), "test")


def choice(of: Subject, n: int = 2, **changes) -> Choice:
    titles = tuple(f"test[{i}]: {of.label_names[of.label[i]]}" for i in range(n))
    return Choice(of.image[:n], titles, of.label[:n], None, None, None, 8, 0)._replace(**changes)


SMALL = subject(widths=(4, 6), dense=8)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """`drawn(view)`: what a view makes of SMALL unasked, each drawn once."""
    return cache(lambda view: view.draw(SMALL, choice(SMALL), tmp_path_factory.mktemp("views")))


@pytest.mark.parametrize("view", [saliency, gradcam, occlusion])
def test_each_view_writes_its_picture_and_numbers(view, drawn):
    made = drawn(view)
    for path, caption in made.pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > 300 and caption
    images = json.loads(json.dumps(made.numbers, allow_nan=False))["images"]
    assert [each["image"] for each in images] == ["test[0]: a", "test[1]: b_$"]
    assert all(0 <= each["probability"] <= 1 and each["truth"] == ("a", "b_$")[i] for i, each in enumerate(images))


def test_the_check_of_integrated_gradients_is_told(drawn):
    made = drawn(saliency)
    assert sum("add up to the change of the logit within" in line for line in made.lines) == 2
    for check in made.numbers["completeness"].values():
        total, difference = np.array(check["total"]), np.array(check["difference"])
        np.testing.assert_allclose(np.abs(total / difference - 1), check["relative_error"], rtol=1e-3, atol=1e-5)
        assert max(check["relative_error"]) < 0.05
    assert made.numbers["num_relus"] == 3


def test_sums_that_do_not_add_up_are_warned_of(tmp_path, monkeypatch):
    def steep(params, model_state, image, *, train, key=None):
        return {"logits": jnp.sin(3e3 * image.mean(axis=(1, 2)))}, model_state

    made = saliency.draw(SMALL._replace(model=Model(SMALL.model.init, steep)), choice(SMALL), tmp_path)
    assert any(line.startswith("warning: for test[") for line in made.lines)


def test_a_network_without_relu_is_told_so(tmp_path):
    plain = subject("logistic")
    made = saliency.draw(plain, choice(plain), tmp_path)
    assert "no ReLU" in made.lines[0]


def test_grad_cam_takes_the_layer_asked_for_and_knows_the_others(tmp_path):
    made = gradcam.draw(SMALL, choice(SMALL, layer="stage1"), tmp_path)
    assert made.numbers["layer"] == "stage1"
    assert np.shape(made.numbers["images"][0]["map"]) == (SIZE // 2, SIZE // 2)
    with pytest.raises(UsageError, match="stage2"):
        gradcam.draw(SMALL, choice(SMALL, layer="stage9"), tmp_path)


def test_the_class_asked_about_is_explained_in_place_of_the_answer():
    answer = drawing.ask(SMALL, choice(SMALL)).probability.argmax(axis=1)
    target = int((answer[0] + 1) % 3)
    asked = drawing.ask(SMALL, choice(SMALL, target=target))
    assert asked.target.tolist() == [target] * 2
    assert asked.other[0] == answer[0]
    assert asked.captions[0][-1][0].startswith(f"asked: {SMALL.label_names[target]}")


def test_an_answer_is_green_when_right_red_when_wrong_and_neither_when_unknown():
    answer = drawing.ask(SMALL, choice(SMALL)).probability.argmax(axis=1).astype(np.int32)
    colors = [
        drawing.ask(SMALL, choice(SMALL, label=label)).captions[0][1][1]
        for label in (answer, (answer + 1) % 3, np.full(2, -1))
    ]
    assert colors[:2] == [GREEN, RED] and colors[2] not in (GREEN, RED)


def test_more_images_than_a_figure_holds_are_told():
    many = np.repeat(SMALL.image, 6, axis=0)
    asked = drawing.ask(SMALL, choice(SMALL, image=many, title=("x",) * 36, label=np.zeros(36, np.int32)))
    assert len(asked.image) == 32 and "4 more" in asked.lines[0]


def test_a_network_without_classes_is_refused(tmp_path):
    model = Model(
        SMALL.model.init, lambda params, model_state, image, *, train, key=None: ({"recon": image}, model_state)
    )
    for view in (saliency, gradcam, occlusion):
        with pytest.raises(RunError, match="no classes"):
            view.draw(SMALL._replace(model=model), choice(SMALL), tmp_path)


def test_baselines_are_black_and_the_mean_as_the_network_takes_them():
    np.testing.assert_allclose(drawing.black(SMALL), SMALL.prepare(np.zeros((1, 1, 1, 3))), atol=1e-6)
    mean = SMALL.image.mean(axis=(0, 1, 2)).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(drawing.mean_color(SMALL), SMALL.prepare(mean), atol=1e-5)


def test_colours_of_maps():
    ends = drawing.signed_map(np.array([[-2.0, 0.0, 2.0]]))[0].astype(int)
    assert ends[0, 2] > ends[0, 0] and ends[2, 0] > ends[2, 2] and ends[1].min() > 240  # blue, white, red
    assert drawing.unsigned_map(np.zeros((2, 2))).max() < 10  # nothing at all stays black
    picture = np.full((1, 2, 3), 200, np.uint8)
    overlay = drawing.unsigned_overlay(picture, np.array([[0.0, 1.0]]))[0]
    assert overlay[0].tolist() == [170] * 3 and overlay[1].tolist() != overlay[0].tolist()
