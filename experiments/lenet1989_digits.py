# SPDX-License-Identifier: Apache-2.0
"""LeNet-1989 on scikit-learn's handwritten digits: the paper's 23 passes, an image a step, in half a minute.

LeCun et al. 1989, Neural Computation 1(4): 7,291 zip code digits of the US Postal Service, 5.0% test error. These are
not published; the 1,797 8x8 digits here are resized to the network's 16x16, and a fifth of them is the test set.
As in the paper: inputs from -1 to 1, squared error against -1 and +1, one image a step, 23 passes. Deviation: plain
gradient descent of a fixed rate, where the paper scales each weight's rate by an estimate of its second derivative.

    python run.py --config=experiments/lenet1989_digits.py --workdir=runs/lenet1989_digits

Hardware: 2 cores of an AMD EPYC that other work shared, 24 GiB, no GPU; Python 3.11, jax 0.10.2, float32
Result: test accuracy 98.05 ± 0.28% (n = 3 seeds); 38 s, compilation included
"""

from experiments import default


def get_config() -> default.Config:
    config = default.get_config()
    config.model = {"name": "lenet1989"}
    config.data.source = "digits"
    config.data.image_size = (16, 16)
    config.data.resize = "stretch"
    config.data.mean = (0.5,)  # inputs of -1 to 1
    config.data.std = (0.5,)
    config.data.batch_size = 1
    config.task.loss = "squared_error"
    config.optimizer.learning_rate = 0.03
    config.optimizer.momentum = 0.0
    config.train.num_epochs = 23.0
    config.train.eval_every_epochs = 5.0
    config.train.checkpoint_every_epochs = 10.0
    config.train.log_every_steps = 1000
    return config
