# SPDX-License-Identifier: Apache-2.0
"""Every key of an experiment, once: its default, its meaning and its unit.

An experiment file starts from `get_config()` here and overrides only what its paper changes:

    from experiments import default

    def get_config(variant: str = ""):
        config = default.get_config()
        config.model.name = "lenet5"
        return config.lock()

Keys of one duration come in two units, `*_epochs` and `*_steps`; exactly one of the two is set, the other
is None. One given on the command line takes the place of the other.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

Config = Any  # a ConfigDict; its keys are attributes that no type checker knows


def get_config(variant: str = "") -> Config:
    """The defaults, locked: a key that is not here is a typo."""
    if variant:
        raise ValueError(f"the default config has no variant {variant!r}")
    config = ConfigDict()
    config.seed = 0  # of initialisation, data order, augmentation and dropout

    # Several networks trained in one compiled step, each a run of its own in WORKDIR/member0, member1, ...
    config.ensemble_size = 1  # networks; their seeds are seed, seed + 1, ...
    config.ensemble_seeds = ()  # their seeds, which then tell how many
    config.ensemble_way = "auto"  # auto: what measured best | vmap | turns | unrolled | map (docs/sweeps.md)
    config.ensemble_learning_rates = ()  # their peaks of the schedule, likewise; (): optimizer.learning_rate for all

    # Start from trained weights: a run's folder or URL (last checkpoint; RUN@best, RUN@1200), a file of weights
    # (.safetensors, .pth), or hf:OWNER/NAME[@REVISION][:FILE] of the Hub. Read once, at step 0; an output for other
    # classes starts anew.
    config.init_from = ""  # "": at random
    config.init_rename = ()  # "OLD=NEW" of the source's names, "*" filled in: ("backbone/*=*", "head=output")
    config.init_allow = ()  # patterns of arrays that may be missing there (they start anew) or left over

    # Train a part of the parameters. Patterns are of parameter paths as `run.py summary` shows
    # them, "stage1/block1/conv1/kernel": `stem*`, `stage1/*`, `*/bn*`, `output`; the last that matches decides, `!`
    # takes back, and each must match something.
    # Parameters that keep their value, ("*", "!output"): all but the output; BatchNorm there keeps its statistics.
    config.freeze = ()
    config.unfreeze = ()  # of the frozen: "PATTERN=EPOCH", trained from that epoch on

    # The network: `name` is a short name of cnnjax.models.MODELS, "package.module:function" or
    # "path/to/file.py:function"; every other key here is passed to that function. `num_classes` is filled in
    # from the data when the function takes it.
    config.model = ConfigDict({"name": "mlp"}, allow_dotted_keys=False)

    config.data = data = ConfigDict()
    data.source = "digits"  # digits | tfds:NAME | folder:PATH | pack:DIR (of `run.py prepare`) | tar:DIR | synthetic
    # Where prepared sets and raw files lie; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    data.dir = placeholder(str)
    data.train_split = "train"  # names (or slices, "train[:10%]") of the source's splits
    data.test_split = "test"
    data.attribute = ""  # tfds: a yes-or-no feature that is the label ("Smiling" of celeb_a); "": the set's own label
    data.labels = ()  # keep only these label names, in this order; (): all
    data.validation_fraction = 0.1  # of train, carved by split_seed when the source has no validation split
    data.test_fraction = 0.2  # of all, carved likewise when the source has no test split
    data.split_seed = 0  # of both; apart from config.seed, so that seeds of a run share one test set
    # Cross-validation of a small set: train_split is divided into so many folds, each of which is tested by a run that
    # trains on the others; the source's own test set stays out of it.
    data.folds = 0  # 2 and more; 0: none
    data.fold_repeats = 1  # times, each with another division
    data.fold = -1  # the one to train, 0..folds * fold_repeats - 1; -1: all, one after the other, with mean and std
    data.balance = False  # every class equally often in training, however many pictures it has
    data.train_examples = 0  # so many of train, classes in their shares, drawn by split_seed; 0: all
    data.batch_size = 128  # images a step, over all devices
    data.eval_batch_size = 500  # images a step of evaluation, over all devices
    data.color = "keep"  # keep | gray | rgb
    data.exif_orientation = True  # turn pictures upright as their EXIF tag says
    data.image_size = ()  # (height, width) in pixels; (): as stored, which must then be one size for all
    # crop: short side to size, then centre crop | pad: centred on black | stretch | fit: long side to size, then pad
    data.resize = "crop"
    data.crop_from = 0  # crop: the short side in pixels before the centre crop (256 for a 224 crop); 0: the crop's own
    data.interpolation = "bilinear"  # nearest | bilinear | bicubic | lanczos
    data.mean = (0.0,)  # subtracted after division by 255: one number, or one a channel, in 0..1
    data.std = (1.0,)  # divided by after that
    data.on_bad_image = "error"  # error: list unreadable files and stop | skip: count, log and go on
    data.max_resident_gib = 8.0  # decoded sets up to this size live on the device whole
    # Streamed: pictures are decoded batch by batch, and memory does not grow with the set (docs/streaming.md).
    data.stream = "auto"  # auto: sets that are larger than max_resident_gib when decoded | true | false
    data.workers = 0  # streamed: processes that decode; 0: threads of this one alone, good for about 8 cores
    data.threads = 0  # streamed: threads that decode, in each process; 0: the cores, divided by the workers
    data.prefetch = 4  # streamed: batches made ahead, by each process
    # streamed: augment.crop_area is of the whole picture as its file holds it, cut while it is decoded; False: of what
    # image_size leaves of it, on the device, the same pixels as of a set in memory
    data.crop_whole = True
    data.synthetic = ConfigDict()
    data.synthetic.num_examples = 512  # of train; a quarter of it each for validation and test
    data.synthetic.num_classes = 10
    data.synthetic.image_shape = (32, 32, 3)  # height, width, channels

    # Random changes of the training images, on the device, in this order; 0, or (1.0, 1.0), is off. Pixels are in
    # 0..1, and changes of colour may leave that range. `run.py preview` shows what they do.
    config.augment = augment = ConfigDict()
    augment.mirror = 0.0  # probability of a left-right flip
    # random: anew in each epoch | alternating: in the first, from then on each image is flipped in every second epoch
    augment.mirror_mode = "random"
    augment.crop_area = (1.0, 1.0)  # random resized crop: range of the area kept, as a fraction; Inception: (0.08, 1.0)
    augment.crop_aspect = (0.75, 1.3333)  # and of its width / height, in pixels
    augment.shift = 0  # most pixels moved along each axis (pad by this, then crop at random)
    augment.rotate = 0.0  # most degrees either way
    augment.shear = 0.0  # most degrees either way, of the vertical; with rotate and scale one bilinear resampling
    augment.scale = (1.0, 1.0)  # range of magnification
    augment.fill = (
        "black"  # what enters at the border (shift, rotate, shear, scale): black | mean (data.mean) | edge | reflect
    )
    augment.brightness = 0.0  # x + b, b within +- this, in units of the full range
    augment.contrast = 0.0  # a * x about the image's mean, a within 1 +- this
    augment.channel_gain = 0.0  # a * x for each channel by itself, a within 1 +- this
    augment.saturation = 0.0  # a * x about the image's gray, a within 1 +- this; RGB only
    augment.pca_noise = 0.0  # std of AlexNet's noise along the colour axes of ImageNet; the paper: 0.1; RGB only
    augment.cutout = 0  # side in pixels of one square set to data.mean; it may hang over the border
    augment.erase = 0.0  # probability of a random rectangle filled with noise (random erasing)
    augment.mixup = 0.0  # alpha of Beta(alpha, alpha)
    augment.cutmix = 0.0  # alpha of Beta(alpha, alpha); with mixup on too, each image takes either
    # Noise of the input alone, last of all: what a reconstruction is compared with stays clean (denoising).
    augment.noise = 0.0  # std of Gaussian noise on each value, in units of the full range
    augment.noise_drop = 0.0  # probability that a pixel turns black

    config.task = task = ConfigDict()
    task.name = "classification"  # classification | reconstruction
    # classification; cross_entropy: of the softmax | squared_error: of the logits against +1 (true class) and -1
    task.loss = "cross_entropy"
    # classification, in training; none | balanced: a class weighs N / (K * its pictures), 1 on average
    task.class_weights = "none"
    task.label_smoothing = 0.0  # classification: probability taken from the true class and spread over all K
    task.reconstruction_loss = "mse"  # reconstruction, pixels in 0..1; mse | bce (cross-entropy, nats a pixel)
    task.ssim_weight = 0.0  # reconstruction: adds this times 1 - SSIM (Wang et al. 2004) to the loss
    task.kl_weight = 1.0  # a variational network: times KL(latent, standard normal), in nats over the values a picture
    task.sparsity = "l1"  # of the latent; l1: mean |latent| | kl: KL(sparsity_target, mean sigmoid of a unit), nats
    task.sparsity_weight = 0.0  # times which it joins the loss
    task.sparsity_target = 0.05  # kl: share of pictures that a unit is to be on for

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "sgd"  # sgd | adam | adamw | rmsprop | lars | lion
    optimizer.learning_rate = 0.1  # the peak of the schedule
    optimizer.momentum = 0.9  # sgd, rmsprop, lars
    optimizer.nesterov = False  # sgd, lars
    optimizer.beta1 = 0.9  # adam, adamw, lion
    optimizer.beta2 = 0.999  # adam, adamw, lion; decay of the mean square in rmsprop
    optimizer.epsilon = 1e-8  # adam, adamw, rmsprop
    optimizer.weight_decay = 0.0  # adamw, lion: decoupled; others: L2 term weight_decay / 2 * |w|^2 of the loss
    optimizer.l1 = 0.0  # L1 term l1 * |w| of the loss
    # L2-SP: l2_sp / 2 * |w - start|^2 of what config.init_from gave, l2_sp_new / 2 * |w|^2 of the layers that are new
    optimizer.l2_sp = 0.0
    optimizer.l2_sp_new = 0.01
    optimizer.decay = "kernels"  # what all of these act on: kernels (arrays of two and more axes) | all
    optimizer.factors = ()  # of the learning rate, "PATTERN=FACTOR" of parameter paths: ("stem*=0.1", "output=10")
    optimizer.decay_factors = ()  # of weight_decay and l1, likewise: ("*/norm?/bias=0.5",)
    optimizer.freeze_after = ()  # "PATTERN=EPOCH": parameters that stay as they are from that epoch on
    optimizer.clip_norm = 0.0  # most global norm of the gradient; 0: no clipping

    # Lookahead: every so many steps the parameters (and running averages) fall back on the way they came to slow ones,
    # which move there too; 0: off
    optimizer.lookahead = 0
    optimizer.lookahead_decay = 0.5  # share of the slow ones that is kept then (1 - alpha of the paper)
    optimizer.lookahead_power = 0.0  # the share rises to that as (step / steps)^power; 0: it is constant

    config.schedule = schedule = ConfigDict()
    schedule.name = "constant"  # constant | step | cosine | one_cycle | polynomial
    schedule.warmup_epochs = 0.0  # linear from initial_fraction of the peak to the peak
    schedule.warmup_steps = placeholder(int)
    schedule.boundaries_epochs = ()  # step: where the rate is multiplied by `factor`
    schedule.boundaries_steps = placeholder(tuple)
    schedule.factor = 0.1
    schedule.initial_fraction = 0.0  # first rate of a warm-up / peak; one_cycle starts from 1/25
    schedule.final_fraction = 0.0  # cosine, polynomial, one_cycle: last rate / peak
    schedule.power = 1.0  # polynomial

    config.train = train = ConfigDict()
    train.num_epochs = 10.0
    train.num_steps = placeholder(int)
    train.eval_every_epochs = 1.0
    train.eval_every_steps = placeholder(int)
    train.checkpoint_every_epochs = 1.0
    train.checkpoint_every_steps = placeholder(int)
    train.keep_checkpoints = 2  # latest ones; the best on the validation split is kept besides
    train.log_every_steps = 50
    train.steps_per_dispatch = 0  # steps in one call of the compiled loop; 0: chosen for the network and backend
    train.accumulate = 1  # parts that a batch is split into, gradients averaged: less memory, the same step
    # Arrays of at least so many values (parameters, averages, the optimizer's state) are divided over the
    # devices, which hold a part each and exchange more (FSDP); 0: every device holds all. The results are the same.
    train.shard_params = 0
    train.dtype = "float32"  # of the computation: float32 | bfloat16; parameters stay float32
    # Of float32 products: default: the backend's habit (TF32 on GPUs since 2020, bfloat16 on TPUs, float32 on CPUs) |
    # high | highest: float32
    train.matmul_precision = "default"
    train.deterministic = False  # the same bits in every run on a GPU, at a price in speed; CPUs and TPUs do so anyway
    train.ema_decay = 0.0  # of the running average of parameters that is evaluated; 0: none

    # What the last test of a run and `run.py evaluate` show the network of each picture (docs/evaluation.md).
    config.eval = evaluation = ConfigDict()
    # single: the picture as in training | center: a centre crop | tencrop: corners, centre, mirrored | dense: dense
    # layers as convolutions over a larger picture | multiscale: dense at several scales | tta: `views`
    evaluation.protocol = "single"
    evaluation.averaging = "probabilities"  # over views and networks: probabilities | logits
    evaluation.resize = 0  # center, tencrop, dense: short side in pixels; 0: data.crop_from, else 8/7 of the crop
    evaluation.crop = ()  # center, tencrop: (height, width) in pixels; (): as in training
    evaluation.scales = ()  # dense, multiscale: short sides in pixels; (): resize; multiscale: 7/8, 1, 9/8 of it
    evaluation.mirror = True  # dense, multiscale: mirror images too
    evaluation.views = "mirror"  # tta: mirror | mirror_shift: also one pixel either way | augment: as config.augment
    evaluation.num_views = 10  # tta, augment: pictures shown of each, the first as it is
    return config.lock()
