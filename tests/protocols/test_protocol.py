# SPDX-License-Identifier: Apache-2.0
"""Protocols: the sizes they read and show, and whole evaluations against slow loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data import load_dataset
from cnnjax.devices import make_mesh
from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import build_logits, build_model, build_test
from cnnjax.protocols import make_protocol
from cnnjax.protocols.protocol import sized


def sizes(config, shape=(224, 224, 3)):
    return [each.size for each in make_protocol(config, shape).passes]


def test_sizes_are_those_of_the_papers(tiny):
    assert sizes(tiny()) == sizes(tiny("eval.protocol=tta")) == [None]
    for name in ("center", "tencrop", "dense"):
        assert sizes(tiny(f"eval.protocol={name}")) == [(256, 256)]
        assert sizes(tiny(f"eval.protocol={name}", "eval.resize=384")) == [(384, 384)]
    assert sizes(tiny("eval.protocol=multiscale")) == [(224, 224), (256, 256), (288, 288)]
    assert sizes(tiny("eval.protocol=dense", "eval.scales=(256,512)")) == [(256, 256), (512, 512)]
    assert sizes(tiny("eval.protocol=tencrop", "eval.resize=8"), (7, 14, 1)) == [(8, 16)]
    assert [len(p.views.weight) for p in make_protocol(tiny("eval.protocol=multiscale"), (8, 8, 1)).passes] == [2] * 3


def test_sizes_that_do_not_fit(tiny):
    with pytest.raises(UsageError, match="short side of 200 pixels is less than the crop of 224x224"):
        sizes(tiny("eval.protocol=tencrop", "eval.resize=200"))
    with pytest.raises(UsageError, match="200 is less than the 224 pixels that the network was trained on"):
        sizes(tiny("eval.protocol=dense", "eval.scales=(256,200)"))
    with pytest.raises(UsageError, match=r"eval\.protocol = 'ten' is out of range"):
        tiny("eval.protocol=ten")
    with pytest.raises(UsageError, match="no larger picture"):
        sized(tiny("data.resize=pad").data, (9, 9))


def test_pictures_are_read_at_the_size_wanted(tiny):
    config = tiny()
    plain = load_dataset(sized(config.data, None), ("test",)).splits["test"]
    larger = load_dataset(sized(config.data, (12, 12)), ("test",)).splits["test"]
    assert plain.image.shape[1:] == (8, 8, 1) and larger.image.shape[1:] == (12, 12, 1)
    np.testing.assert_array_equal(plain.label, larger.label)
    assert config.data.image_size == ()


def parts(config):
    model = build_model(config, 3)
    params, state = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 1)))

    def load(data):
        return load_dataset(data, ("test",)).splits["test"]

    return model, params, state, load


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
def test_ten_crops_of_a_padded_last_batch_against_a_loop(tiny, averaging):
    config = tiny("eval.protocol=tencrop", "eval.resize=10", f"eval.averaging={averaging}", "data.mean=(0.3,)")
    model, params, state, load = parts(config)
    split = load(sized(config.data, (10, 10)))
    assert len(split.label) % config.data.eval_batch_size  # the last batch is padded
    apply = jax.jit(lambda image: model.apply(params, state, image[None], train=False)[0]["logits"][0])
    expected = []
    for image in split.image:
        total = 0
        for flip in (False, True):
            for top, left in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1)):
                crop = image[top : top + 8, left : left + 8]
                crop = (crop[:, ::-1] if flip else crop) / np.float32(255) - np.float32(0.3)
                logits = apply(crop)
                total = total + (jax.nn.softmax(logits) if averaging == "probabilities" else logits) / 10
        expected.append(np.asarray(total))
    got = build_logits(config, model, (8, 8, 1), make_mesh())(params, state, load)
    np.testing.assert_allclose(np.exp(got) if averaging == "probabilities" else got, np.array(expected), atol=2e-5)
    evaluation = build_test(config, model, load, (8, 8, 1), make_mesh())(params, state)
    shown = np.array(expected)
    probability = shown if averaging == "probabilities" else np.asarray(jax.nn.softmax(shown))
    np.testing.assert_allclose(
        evaluation.values["loss"], -np.log(probability[np.arange(len(shown)), split.label]), rtol=1e-3
    )
    np.testing.assert_array_equal(evaluation.prediction, shown.argmax(1))
    assert evaluation.probability is not None
    np.testing.assert_allclose(evaluation.probability, probability.max(1), rtol=1e-4)


def test_scores_must_be_finite_and_of_classes(tiny):
    config = tiny("eval.protocol=tta")
    model, params, state, load = parts(config)
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)
    with pytest.raises(RunError, match="output is not finite for"):
        build_logits(config, model, (8, 8, 1), make_mesh())(broken, state, load)
    config = tiny(
        "eval.protocol=tta", "model.name=autoencoder", "model.latent=2", "model.widths=(2,)", "task.name=reconstruction"
    )
    model, params, state, load = parts(config)
    with pytest.raises(UsageError, match="without classes"):
        build_logits(config, model, (8, 8, 1), make_mesh())(params, state, load)
