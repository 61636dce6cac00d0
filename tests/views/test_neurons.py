# SPDX-License-Identifier: Apache-2.0
"""The views filters, features, top and embed on small networks: files, numbers, and what they refuse."""

import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax.errors import RunError, UsageError
from cnnjax.models import get_model
from cnnjax.types import Model
from cnnjax.views import embed, features, filters, top
from cnnjax.views.subject import Choice, Subject

SIZE, COUNT = 12, 30


def subject(model: Model, channels: int = 3) -> Subject:
    image = np.random.default_rng(0).integers(0, 255, (COUNT, SIZE, SIZE, channels), np.uint8)
    params, state = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, channels)))
    mean, std = np.full((1, 1, 1, channels), 0.5, np.float32), np.full((1, 1, 1, channels), 0.25, np.float32)

    def prepare(image):
        return (jnp.asarray(image, jnp.float32) / 255 - mean) / std

    label = np.arange(COUNT, dtype=np.int32) % 3
    return Subject("run", model, params, state, prepare, mean, std, image, label, ("a", "b_$", "c"), "test")


def choice(of: Subject, n: int = 2, **changes) -> Choice:
    titles = tuple(f"test[{i}]: {of.label_names[of.label[i]]}" for i in range(n))
    return Choice(of.image[:n], titles, of.label[:n], None, None, None, 3, 0)._replace(**changes)


def outputs_of(of: Subject, image):
    apply = jax.jit(partial(of.model.apply, train=False))
    return apply(of.params, of.model_state, of.prepare(image))[0]


def plain() -> Model:
    """A network of plain functions: one convolution, then the mean of its map."""

    def apply(params, model_state, image, *, train, key=None):
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(image, params["w"], (1, 1), "VALID", dimension_numbers=layout)
        return {"logits": x.mean(axis=(1, 2)), "edges": x}, model_state

    return Model(lambda key, image: ({"w": jax.random.normal(key, (3, 3, image.shape[-1], 3))}, {}), apply)


SMALL = subject(get_model("simple_cnn", {"widths": (4, 6), "dense": 8}, num_classes=3))
VIEWS = (filters, features, top, embed)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """`drawn(view)`: what a view makes of SMALL unasked, each drawn once."""
    return cache(lambda view: view.draw(SMALL, choice(SMALL), tmp_path_factory.mktemp("views")))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("of", [SMALL, subject(plain(), 1)], ids=["linen", "plain"])
def test_each_view_writes_pictures_and_numbers(view, of, drawn, tmp_path):
    made = drawn(view) if of is SMALL else view.draw(of, choice(of), tmp_path)
    assert made.pictures
    assert len({path for path, _ in made.pictures}) == len(made.pictures)
    for path, caption in made.pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > 200 and caption
    assert json.dumps(made.numbers, allow_nan=False)


def test_filters_of_a_layer_by_its_parameters_or_its_output(drawn, tmp_path):
    for layer in ("stage2_conv1/kernel", "stage2_conv1", "stage2", "features"):
        ((path, _),) = filters.draw(SMALL, choice(SMALL, layer=layer), tmp_path).pictures
        assert path.name == "filters_stage2_conv1.png"
    names = [each["name"] for each in drawn(filters).numbers["kernels"]]
    assert names == ["stage1_conv1/kernel", "stage2_conv1/kernel"]


def test_features_tell_the_most_active_channels_and_the_answer(drawn):
    made = drawn(features)
    assert [path.name for path, _ in made.pictures] == ["features_1.png", "features_2.png"]
    outputs = outputs_of(SMALL, SMALL.image[:2])
    for i, told in enumerate(made.numbers["images"]):
        maps = np.asarray(outputs["stage2"][i], np.float64)
        spread = maps.std(axis=(0, 1))
        assert told["layers"]["stage2"]["channels"] == list(np.argsort(-spread, kind="stable")[:3])
        np.testing.assert_allclose(told["layers"]["stage2"]["activity"], np.sort(spread)[::-1][:3], rtol=1e-4)
        assert list(told["layers"]) == ["stage1", "stage2"]
        likely = np.asarray(jax.nn.softmax(outputs["logits"][i]))
        assert next(iter(told["answer"])) == SMALL.label_names[likely.argmax()]
        assert sum(told["answer"].values()) == pytest.approx(1)


def test_top_tells_images_and_boxes_in_the_order_of_the_network(drawn):
    made = drawn(top)
    assert [path.name for path, _ in made.pictures] == [
        "top.png",
        *(f"top_{name}.png" for name in ("stage1", "stage2", "features", "logits")),
    ]
    logits = made.numbers["layers"]["logits"]
    assert logits["sees"] == [SIZE, SIZE] and list(logits["units"]) == ["0", "1", "2"]
    outputs = outputs_of(SMALL, SMALL.image)
    for unit, told in logits["units"].items():
        order = np.argsort(-np.asarray(outputs["logits"])[:, int(unit)], kind="stable")[:9]
        assert told["index"] == list(order)
        assert told["label"] == [SMALL.label_names[SMALL.label[i]] for i in order]
    # A place of stage1 is the maximum of 2x2 convolutions 3x3: 4x4 pixels, less at the border.
    assert made.numbers["layers"]["stage1"]["sees"] == [4, 4]
    for told in made.numbers["layers"]["stage1"]["units"].values():
        for (row, column), box in zip(told["place"], told["box"], strict=True):
            assert box == [
                max(2 * row - 1, 0), max(2 * column - 1, 0), min(2 * row + 3, SIZE), min(2 * column + 3, SIZE)
            ]  # fmt: skip


def test_one_neuron_that_was_asked_for(tmp_path):
    made = top.draw(SMALL, choice(SMALL, layer="stage2", unit=5), tmp_path)
    assert [path.name for path, _ in made.pictures] == ["top_stage2.png"]
    assert list(made.numbers["layers"]["stage2"]["units"]) == ["5"]
    made = features.draw(SMALL, choice(SMALL, layer="stage2", unit=5), tmp_path)
    assert made.numbers["images"][0]["layers"]["stage2"]["channels"] == [5]


def test_embed_tells_what_can_be_checked(drawn, tmp_path):
    made = drawn(embed)
    assert (made.numbers["layer"], made.numbers["images"], made.numbers["dimensions"]) == ("features", COUNT, 8)
    agreement = made.numbers["agreement"]
    assert set(agreement) == {"features", "pca", "tsne", "chance"}
    assert all(0 <= share <= 1 for share in agreement.values())
    # 3 classes of 10: of 29 others 9 have the class.
    assert agreement["chance"] == pytest.approx(9 / 29)
    first, second = made.numbers["explained"]
    assert 0 <= second <= first and first + second <= 1
    assert embed.draw(SMALL, choice(SMALL, layer="stage1"), tmp_path).numbers["dimensions"] == 4


@pytest.mark.parametrize(
    ("names", "layer"),
    [
        (["c1", "f6", "logits"], "f6"),
        (["stage1", "features", "late", "logits"], "features"),
        (["enc1", "latent", "dec1", "recon"], "latent"),
        (["logits"], "logits"),
    ],
)
def test_the_layer_that_is_embedded_unless_one_is_named(names, layer):
    assert embed.default_layer(names) == layer


@pytest.mark.parametrize("view", VIEWS)
def test_an_unknown_layer_is_told_with_the_nearest(view, tmp_path):
    with pytest.raises(UsageError, match=r"'stagf1'.*stage1"):
        view.draw(SMALL, choice(SMALL, layer="stagf1"), tmp_path)


@pytest.mark.parametrize("view", [features, top])
def test_a_channel_that_there_is_not(view, tmp_path):
    with pytest.raises(UsageError, match="--unit is 4, but layer 'stage1' has the channels 0 to 3"):
        view.draw(SMALL, choice(SMALL, layer="stage1", unit=4), tmp_path)


def test_a_dense_network_has_templates_and_no_kernels_to_speak_of(tmp_path):
    dense = subject(get_model("logistic", {}, num_classes=3), 1)
    ((path, _),) = filters.draw(dense, choice(dense), tmp_path).pictures
    assert path.name == "filters.png"

    def apply(params, model_state, image, *, train, key=None):
        return {"logits": image[:, 0, 0]}, model_state

    nothing = subject(Model(lambda key, image: ({}, {}), apply))
    with pytest.raises(RunError, match="no convolution"):
        filters.draw(nothing, choice(nothing), tmp_path)
    assert not features.draw(nothing, choice(nothing), tmp_path).numbers["images"][0]["layers"]


def test_too_few_images_for_a_plane(tmp_path):
    with pytest.raises(RunError, match="too few"):
        embed.draw(SMALL._replace(image=SMALL.image[:7], label=SMALL.label[:7]), choice(SMALL), tmp_path)
