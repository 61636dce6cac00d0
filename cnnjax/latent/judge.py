# SPDX-License-Identifier: Apache-2.0
"""A classifier's word on pictures that a decoder has made: another run, trained on the real labels."""

import numpy as np
from PIL import Image

from cnnjax.data.images import picture_to_shape
from cnnjax.errors import RunError, unknown
from cnnjax.experiment import load_network
from cnnjax.latent.contrast import Contrast
from cnnjax.latent.control import Judge
from cnnjax.predict import make_predict
from cnnjax.report.reconstructions import to_pixels

_BATCH = 200


def load_judge(workdir: str, contrast: Contrast, checkpoint: str = "latest") -> Judge:
    """The probability that a picture has the attribute, as the classifier of another run sees it.

    Pictures are brought to its size and colour as files are, rounded to 8 bits. Where the attribute is told from one
    other label, only these two count.

    Raises:
      RunError: it does not know the attribute, or is no classifier; or as `load_network`.
    """
    network = load_network(workdir, checkpoint)
    names = network.info.label_names
    if contrast.name not in names:
        raise RunError(f"--classifier={workdir}: {unknown('label', contrast.name, names)}; train one on these labels")
    predict = make_predict(network, _BATCH)
    alone = [contrast.other] if contrast.other in names else [name for name in names if name != contrast.name]
    wanted, others = names.index(contrast.name), [names.index(name) for name in alone]

    def judge(pictures: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(pictures), _BATCH):
            pixels = to_pixels(pictures[start : start + _BATCH])
            if pixels.shape[1:] != network.info.image_shape:
                shown = [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in pixels]
                pixels = np.stack([picture_to_shape(p, network.config.data, network.info.image_shape) for p in shown])
            probability = predict(pixels)
            found.append(probability[:, wanted] / (probability[:, wanted] + probability[:, others].sum(axis=1)))
        return np.concatenate(found)

    return judge
