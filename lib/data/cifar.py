"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009, "Learning multiple layers of features from tiny images")."""

from dataclasses import replace
from pathlib import Path

from ..core.registry import datasets
from .base import Dataset
from .cifar_files import Cifar, File, Form

# The second mirror is the copy of Apache MXNet. Downloads are verified by MD5.
MXNET = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset"
CIFAR10_URLS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    f"{MXNET}/cifar10/cifar-10-binary.tar.gz",
)
CIFAR100_URLS = (
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    f"{MXNET}/cifar100/cifar-100-binary.tar.gz",
)

# MD5 of the archives: the home page; of the pickles: torchvision.datasets.cifar.
CIFAR10_RECORDS = Form(
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    files=(*(File(f"data_batch_{n}.bin", 10_000) for n in range(1, 6)), File("test_batch.bin", 10_000)),
)
CIFAR10_PICKLES = Form(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    files=(
        File("data_batch_1", 10_000, "c99cafc152244af753f735de768cd75f"),
        File("data_batch_2", 10_000, "d4bba439e000b95fd0a9bffe97cbabec"),
        File("data_batch_3", 10_000, "54ebc095f3ab1f0389bbae665268c751"),
        File("data_batch_4", 10_000, "634d18415352ddfa80567beed471001a"),
        File("data_batch_5", 10_000, "482c414d41f54cd18b22e5b47cb7c3cb"),
        File("test_batch", 10_000, "40351d587109b95175f43aff81a1287e"),
    ),
)
CIFAR100_RECORDS = Form(
    folder="cifar-100-binary",
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    files=(File("train.bin", 50_000), File("test.bin", 10_000)),
)
CIFAR100_PICKLES = Form(
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    files=(
        File("train", 50_000, "16019d7e3df5f24257cddd939b257f8d"),
        File("test", 10_000, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    ),
)

CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR100_SUPERCLASSES = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
vehicles_1 vehicles_2
"""

CIFAR10 = Cifar(
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    levels=(10,),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    forms=(CIFAR10_RECORDS, CIFAR10_PICKLES),
    urls=CIFAR10_URLS,
)
CIFAR100 = Cifar(
    classes=tuple(CIFAR100_CLASSES.split()),
    levels=(20, 100),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    forms=(CIFAR100_RECORDS, CIFAR100_PICKLES),
    urls=CIFAR100_URLS,
)
CIFAR100_COARSE = replace(CIFAR100, classes=tuple(CIFAR100_SUPERCLASSES.split()), level=0)

SHARED = {
    "shape": (3, 32, 32),
    "train": 50_000,
    "test": 10_000,
    "balanced": True,
    "augment": ("crop", "flip"),
    "paper": "Krizhevsky 2009",
}
COMPAT = {"pprp-2021": {"normalize": "legacy"}}


# Truck for automobile, bird for airplane, deer for horse, cat for dog and dog for cat: the asymmetric label
# noise of Patrini et al. 2017 (arXiv:1609.03683).
MISTAKEN = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


# `legacy`: the statistics of many older projects. For CIFAR-10 it is the mean of the deviations within each
# image, which ignores differences in brightness between images; for CIFAR-100 the last digits differ.
@datasets.register(
    "cifar10",
    classes=CIFAR10.classes,
    mean=CIFAR10.mean,
    std=CIFAR10.std,
    legacy=((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    mistaken=MISTAKEN,
    compat=COMPAT,
    **SHARED,
)
def cifar10(root: Path, offline: bool) -> Dataset:
    """60,000 colour photographs of 32x32 pixels in 10 classes."""
    return CIFAR10.load(root, offline)


@datasets.register(
    "cifar100",
    classes=CIFAR100.classes,
    mean=CIFAR100.mean,
    std=CIFAR100.std,
    legacy=((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    compat=COMPAT,
    **SHARED,
)
def cifar100(root: Path, offline: bool) -> Dataset:
    """60,000 colour photographs of 32x32 pixels in 100 classes, 600 each."""
    return CIFAR100.load(root, offline)


@datasets.register(
    "cifar100_coarse", classes=CIFAR100_COARSE.classes, mean=CIFAR100.mean, std=CIFAR100.std, **SHARED
)
def cifar100_coarse(root: Path, offline: bool) -> Dataset:
    """CIFAR-100 with its 20 superclasses, 3,000 photographs each."""
    return CIFAR100_COARSE.load(root, offline)
