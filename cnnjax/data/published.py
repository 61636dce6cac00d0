# SPDX-License-Identifier: Apache-2.0
"""What the publishers of MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 give out: files, checksums, labels.

Sizes and SHA-256 are those that tensorflow-datasets registers for the same files. The MD5 of the unpacked IDX files
tell apart sets whose files have the same names. Labels and their order are the publishers', and those of
tensorflow-datasets.
"""

from collections.abc import Mapping
from typing import NamedTuple


class RawFile(NamedTuple):
    """A file as it is published."""

    name: str
    size: int  # bytes
    sha256: str
    md5: str = ""  # of an IDX file, unpacked


class RawSet(NamedTuple):
    """A data set as it is published.

    Attributes:
      urls: folders on the network that hold the files, the first choice first.
      files: what is downloaded: four IDX files, or one archive of CIFAR's binary version.
      splits: the names of each split's files, unpacked: (images, labels) in IDX, one or more batches of CIFAR.
      sizes: the number of pictures in each split.
      folders: where else the files lie below the user's folder, as other programs lay them out.
      pickled: names of CIFAR's Python version, which holds the same and cannot be read safely.
      label_names: K names.
    """

    urls: tuple[str, ...]
    files: tuple[RawFile, ...]
    splits: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]
    folders: tuple[str, ...]
    pickled: tuple[str, ...]
    label_names: tuple[str, ...]


_IDX_SPLITS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CIFAR10_SPLITS = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_CIFAR_URLS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
_CIFAR100_NAMES = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
  butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
  dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
  lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
  pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
  shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
  television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"""

SETS: dict[str, RawSet] = {
    "mnist": RawSet(
        urls=("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        files=(
            RawFile(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "6bbc9ace898e44ae57da46a324031adb",
            ),
            RawFile(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "a25bea736e30d166cdddb491f175f624",
            ),
            RawFile(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "2646ac647ad5339dbf082846283269ea",
            ),
            RawFile(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "27ae3e4e09519cfbb04c329615203637",
            ),
        ),
        splits=_IDX_SPLITS,
        sizes={"train": 60000, "test": 10000},
        folders=("MNIST/raw",),
        pickled=(),
        label_names=tuple("0123456789"),
    ),
    "fashion_mnist": RawSet(
        urls=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        files=(
            RawFile(
                "train-images-idx3-ubyte.gz",
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            ),
            RawFile(
                "train-labels-idx1-ubyte.gz",
                29515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "9018921c3c673c538a1fc5bad174d6f9",
            ),
            RawFile(
                "t10k-images-idx3-ubyte.gz",
                4422102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "8181f5470baa50b63fa0f6fddb340f0a",
            ),
            RawFile(
                "t10k-labels-idx1-ubyte.gz",
                5148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "15d484375f8d13e6eb1aabb0c3f46965",
            ),
        ),
        splits=_IDX_SPLITS,
        sizes={"train": 60000, "test": 10000},
        folders=("FashionMNIST/raw",),
        pickled=(),
        label_names=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    "cifar10": RawSet(
        urls=_CIFAR_URLS,
        files=(
            RawFile(
                "cifar-10-binary.tar.gz",
                170052171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        splits=_CIFAR10_SPLITS,
        sizes={"train": 50000, "test": 10000},
        folders=("cifar-10-batches-bin",),
        pickled=("cifar-10-batches-py", "cifar-10-python.tar.gz"),
        label_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "cifar100": RawSet(
        urls=_CIFAR_URLS,
        files=(
            RawFile(
                "cifar-100-binary.tar.gz",
                168513733,
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ),
        ),
        splits={"train": ("train.bin",), "test": ("test.bin",)},
        sizes={"train": 50000, "test": 10000},
        folders=("cifar-100-binary",),
        pickled=("cifar-100-python", "cifar-100-python.tar.gz"),
        label_names=tuple(_CIFAR100_NAMES.split()),
    ),
}
"""The sets there are, by their names in tensorflow-datasets."""
