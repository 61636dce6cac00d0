# SPDX-License-Identifier: Apache-2.0
"""Which features of a tensorflow-datasets set are the picture and the label."""

from typing import Any

import numpy as np

from cnnjax.errors import RunError, UsageError, unknown


def image_and_label(builder: Any) -> tuple[str, str]:
    """The names of the features to learn from and to learn.

    Raises:
      RunError: the set is no image classification set; one that has attributes is told to choose one.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    found = [[key for key, feature in features.items() if isinstance(feature, kind)] for kind in kinds]
    pair = builder.info.supervised_keys or ()
    if len(pair) == 2 and pair[0] in found[0] and pair[1] in found[1]:
        image, label = pair
    elif [len(keys) for keys in found] == [1, 1]:
        ((image,), (label,)) = found
    else:
        held = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in sorted(features.items()))
        known = boolean_features(builder)
        remedy = f"set config.data.attribute to one of its {len(known)}, such as {next(iter(known), '')!r}"
        raise RunError(
            f"{builder.info.full_name} is no image classification set: it holds {held}; "
            f"{remedy if known else 'choose another'}"
        )
    if np.dtype(features[image].np_dtype).name not in ("uint8", "uint16") or features[label].num_classes is None:
        held = " ".join(f"{features[image]} and {features[label]}".split())
        raise RunError(f"{builder.info.full_name} has pixels or labels of unknown range ({held}); choose another set")
    return image, label


def boolean_features(builder: Any) -> dict[str, str]:
    """The yes-or-no features by name, with their place in a record: {"Smiling": "attributes/Smiling"}."""
    found = {}

    def walk(features: Any, place: str) -> None:
        for key, feature in sorted(features.items()):
            if hasattr(feature, "items"):
                walk(feature, f"{place}{key}/")
            elif feature.shape == () and feature.np_dtype == np.bool_:
                found[key] = f"{place}{key}"

    walk(builder.info.features, "")
    return found


def image_and_attribute(builder: Any, attribute: str) -> tuple[str, str]:
    """The name of the only picture, and the place of an attribute.

    Raises:
      UsageError: there is no such attribute.
      RunError: the set has no picture, or several.
    """
    import tensorflow_datasets as tfds

    known = boolean_features(builder)
    if attribute not in known:
        raise UsageError(unknown("attribute (config.data.attribute)", attribute, known))
    images = [key for key, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image)]
    if len(images) != 1 or np.dtype(builder.info.features[images[0]].np_dtype) != np.uint8:
        raise RunError(f"{builder.info.full_name} does not hold one picture of 8 bits a record; choose another set")
    return images[0], known[attribute]
