"""MNIST, Fashion-MNIST, KMNIST and SVHN: decoded by torchvision, downloaded and verified by `download`."""

from pathlib import Path

import torch

from ..core.errors import BadInput
from ..core.registry import datasets
from .base import Dataset, Split
from .download import fetch

# What decoding a damaged file may raise; torchvision does not verify files that it unpacked earlier.
DAMAGED = (AssertionError, EOFError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError)

# The names are torchvision's.
DIGITS = "0 - zero,1 - one,2 - two,3 - three,4 - four,5 - five,6 - six,7 - seven,8 - eight,9 - nine"
CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
LETTERS = "o,ki,su,tsu,na,ha,ma,ya,re,wo"

GREY = {"shape": (1, 28, 28), "train": 60_000, "test": 10_000}
MNIST = {"classes": tuple(DIGITS.split(",")), "mean": (0.1307,), "std": (0.3081,)}
FASHION = {"classes": tuple(CLOTHES.split(",")), "mean": (0.2860,), "std": (0.3530,)}
KMNIST = {"classes": tuple(LETTERS.split(",")), "mean": (0.1918,), "std": (0.3483,)}
SVHN = {"classes": tuple("0123456789"), "mean": (0.4377, 0.4438, 0.4728), "std": (0.1980, 0.2010, 0.1970)}


# No flip for characters: a mirrored one is another character, or none.
@datasets.register(
    "mnist",
    augment=("crop",),
    compat={"pprp-2021": {"augment": ("crop", "flip")}},
    paper="LeCun et al. 1998",
    **GREY,
    **MNIST,
)
def mnist(root: Path, offline: bool) -> Dataset:
    """70,000 handwritten digits, grey, 28x28."""
    return _grey("MNIST", root, offline, **MNIST)


@datasets.register(
    "fashion_mnist", balanced=True, augment=("crop", "flip"), paper="Xiao et al. 2017", **GREY, **FASHION
)
def fashion_mnist(root: Path, offline: bool) -> Dataset:
    """70,000 pieces of clothing, grey, 28x28."""
    return _grey("FashionMNIST", root, offline, **FASHION)


@datasets.register("kmnist", balanced=True, augment=("crop",), paper="Clanuwat et al. 2018", **GREY, **KMNIST)
def kmnist(root: Path, offline: bool) -> Dataset:
    """70,000 cursive Japanese characters, grey, 28x28."""
    return _grey("KMNIST", root, offline, **KMNIST)


@datasets.register(
    "svhn",
    shape=(3, 32, 32),
    train=73_257,
    test=26_032,
    augment=("crop",),
    paper="Netzer et al. 2011",
    **SVHN,
)
def svhn(root: Path, offline: bool) -> Dataset:
    """99,289 digits cut from house numbers, colour, 32x32."""
    from torchvision import datasets as vision

    splits = []
    for name in ("train", "test"):
        url, filename, md5 = vision.SVHN.split_list[name]
        path = fetch(filename, [url], md5, root, offline)
        try:
            part = vision.SVHN(root, split=name)
        except DAMAGED as error:
            raise _undecodable(path, error) from error
        splits.append(Split(torch.from_numpy(part.data).contiguous(), torch.from_numpy(part.labels)))
    return Dataset(*splits, **SVHN)


def _grey(name: str, root: Path, offline: bool, **facts: tuple) -> Dataset:
    # Imported here, because it takes seconds and most runs do not need it.
    from torchvision import datasets as vision

    decoder = getattr(vision, name)
    raw = root / name / "raw"
    if not all((raw / filename.removesuffix(".gz")).exists() for filename, _ in decoder.resources):
        for filename, md5 in decoder.resources:
            fetch(filename, [mirror + filename for mirror in decoder.mirrors], md5, raw, offline)
    try:
        # The archives are there already: this only unpacks them, once.
        parts = [decoder(root, train=train, download=True) for train in (True, False)]
        splits = [Split(part.data.unsqueeze(1), part.targets) for part in parts]
        found = [len(s.y) for s in splits], [tuple(s.x.shape) for s in splits]
        if found != ([60_000, 10_000], [(60_000, 1, 28, 28), (10_000, 1, 28, 28)]):
            raise ValueError(f"{found[0]} labels and images of shape {found[1]}")
    except DAMAGED as error:
        raise _undecodable(raw, error) from error
    return Dataset(*splits, **facts)


def _undecodable(path: Path, error: Exception) -> BadInput:
    reason = str(error) or type(error).__name__
    return BadInput(
        f"{path} is damaged ({reason}); delete it and run again, or give another folder with --root"
    )
