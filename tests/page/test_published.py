# SPDX-License-Identifier: Apache-2.0
"""Published numbers are found for the runs they are about, and for no others."""

import json
from importlib import resources

import pytest

from cnnjax.models import MODELS
from cnnjax.page.published import Published, find_published, interval, judge


@pytest.mark.parametrize(
    ("overrides", "accuracy"),
    [
        (("model.name=lenet5", "data.source=tfds:mnist"), 0.9905),
        (("model.name=lenet5", "data.source=tfds:mnist", "augment.rotate=10.0"), 0.992),
        (("model.name=resnet_cifar", "model.depth=20", "data.source=tfds:cifar10"), 0.9125),
        (("model.name=resnet", "model.depth=50", "data.source=tfds:imagenet2012"), 0.7715),
        (("model.name=vgg", "model.variant=D", "data.source=tfds:imagenet2012"), 0.73),
        (("model.name=vgg", "model.variant=D", "model.batch_norm=True", "data.source=tfds:imagenet2012"), 0.7336),
    ],
)
def test_the_number_of_a_known_experiment(tiny, overrides, accuracy):
    found = find_published(tiny(*overrides))
    assert found is not None and found.accuracy == accuracy and found.source


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.name=lenet5", "data.source=digits"),
        ("model.name=lenet5", "data.source=tfds:mnist", "data.labels=('3','8')"),
        ("model.name=resnet_cifar", "model.depth=20", "data.source=tfds:cifar10", "data.image_size=(16,16)"),
        ("model.name=resnet_cifar", "model.depth=20", "model.skip=False", "data.source=tfds:cifar10"),
    ],
)
def test_no_number_for_other_data_or_networks(tiny, overrides):
    assert find_published(tiny(*overrides)) is None


def test_entries_name_networks_that_there_are_and_accuracies():
    for entry in json.loads(resources.files("cnnjax.page").joinpath("published.json").read_text()):
        assert entry["config"]["model.name"] in MODELS
        assert 0.5 < entry["accuracy"] < 1


def test_wilson_interval_against_a_worked_example():
    # 15 of 50: 0.191 to 0.438 (Brown, Cai and DasGupta's formula, worked by hand).
    low, high = interval(0.3, 50)
    assert (low, high) == (pytest.approx(0.1910, abs=5e-4), pytest.approx(0.4375, abs=5e-4))
    assert interval(1.0, 100)[1] == pytest.approx(1.0) and interval(0.0, 100)[0] == pytest.approx(0.0)


@pytest.mark.parametrize(("accuracy", "word"), [(0.9919, "equal"), (0.997, "above"), (0.98, "below")])
def test_a_verdict_knows_what_a_test_set_can_tell(accuracy, word):
    found, sentence = judge(accuracy, 10_000, Published(0.992, "", "a paper"))
    assert found == word and "99.20%" in sentence


def test_a_verdict_says_how_far():
    assert judge(0.98, 10_000, Published(0.992, "", ""))[1].startswith("1.20 percentage points below")
