"""Other labels for the images of CIFAR (CIFAR-10N, CIFAR-100N, CIFAR-10H), other test images (CIFAR-10.1).

Labels are matched with images by their order, which is that of the published batches.
"""

import io
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ..core.files import load_archive
from ..core.registry import datasets
from .base import Dataset, Split
from .cifar import CIFAR10, CIFAR100, SHARED
from .cifar_files import Cifar
from .download import damaged, fetch, read_verified

# SHA-256 of CIFAR-10.1: TensorFlow Datasets. MD5 of CIFAR-10H: torch-uncertainty.
CIFAR10_1_URL = "https://github.com/modestyachts/CIFAR-10.1/raw/master/datasets"
CIFAR10_1 = {
    "v4": (
        "5aaedc268df8f4cffca2ac0cf9e608ae1897a8cddb630c7a850a2ea8f6558e75",
        "1f9544300ded199539b6662364ce7fe6c2e1ea9f87408f06db4b1a6184cffb18",
    ),
    "v6": (
        "2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6",
        "ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448",
    ),
}
CIFAR10H_URL = "https://github.com/jcpeterson/cifar-10h/raw/master/data/cifar10h-probs.npy"
CIFAR10H_MD5 = "7b41f73eee90fdefc73bfc820ab29ba8"

# The authors publish no digests; these are those that users of the files recorded. The clean labels in the
# files are compared with CIFAR's as well.
HUMAN_URL = "https://github.com/UCSC-REAL/cifar-10-100n/raw/main/data"
HUMAN_SHA256 = {
    "CIFAR-10_human.pt": "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310",
    "CIFAR-100_human.pt": "bd2d80409754d420292d622e15e25248ba21e37d27429efac49c8da723f44394",
}
LABELS = {
    "aggregate": "aggre_label",
    "worst": "worse_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
}

TEN = {"classes": CIFAR10.classes, "mean": CIFAR10.mean, "std": CIFAR10.std}
HUNDRED = {"classes": CIFAR100.classes, "mean": CIFAR100.mean, "std": CIFAR100.std}
WEI = "Wei et al. 2022, arXiv:2110.12088"


def _array(filename: str, url: str, digest: str, root: Path, offline: bool) -> np.ndarray:
    """The array in a published .npy file; pickled objects are never read."""
    data = read_verified(fetch(filename, [url], digest, root, offline), digest)
    return np.load(io.BytesIO(data), allow_pickle=False)


def test_only(x: np.ndarray, y: np.ndarray, cifar: Cifar) -> Dataset:
    """A data set of (N, 32, 32, 3) test images, for networks that were trained on CIFAR."""
    test = Split(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(y.astype(np.int64)))
    return Dataset(test.take(slice(0)), test, cifar.classes, cifar.mean, cifar.std)


def _cifar10_1(version: str, root: Path, offline: bool) -> Dataset:
    parts = zip(("data", "labels"), CIFAR10_1[version], strict=True)
    x, y = (
        _array(name := f"cifar10.1_{version}_{part}.npy", f"{CIFAR10_1_URL}/{name}", digest, root, offline)
        for part, digest in parts
    )
    return test_only(x, y, CIFAR10)


RECHT = {"shape": (3, 32, 32), "train": 0, "paper": "Recht et al. 2018, arXiv:1806.00451", **TEN}


@datasets.register("cifar10.1", test=2_000, aliases=("cifar10.1_v6",), **RECHT)
def cifar10_1(root: Path, offline: bool) -> Dataset:
    """2,000 new test images for CIFAR-10, chosen as its authors chose theirs (version 6)."""
    return _cifar10_1("v6", root, offline)


@datasets.register("cifar10.1_v4", test=2_021, **RECHT)
def cifar10_1_v4(root: Path, offline: bool) -> Dataset:
    """2,021 new test images for CIFAR-10, of which the paper reports most results (version 4)."""
    return _cifar10_1("v4", root, offline)


def _relabelled(cifar: Cifar, filename: str, key: str, root: Path, offline: bool) -> Dataset:
    """CIFAR with the training labels under `key` in a file of human annotations."""
    data = cifar.load(root, offline)
    path = fetch(filename, [f"{HUMAN_URL}/{filename}"], HUMAN_SHA256[filename], root, offline)
    # The file holds arrays of NumPy 1, which torch reads only if they are declared safe.
    parts = [np.ndarray, np.dtype, type(np.dtype(np.int64)), type(np.dtype(np.uint8))]
    rebuild = np._core.multiarray._reconstruct
    names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals([*parts, *names]):
            labels = load_archive(path)
        clean, y = (torch.from_numpy(np.asarray(labels[k]).astype(np.int64)) for k in ("clean_label", key))
    except Exception as error:  # torch raises many types for bytes that it cannot read
        raise damaged(path, "arrays of labels", type(error).__name__) from error
    if not torch.equal(clean, data.train.y):
        raise damaged(path, "the labels of CIFAR as clean_label", "others")
    return replace(data, train=replace(data.train, y=y))


@datasets.register("cifar10n", **TEN, **{**SHARED, "balanced": False, "paper": WEI})
def cifar10n(
    root: Path,
    offline: bool,
    labels: Literal["aggregate", "worst", "random1", "random2", "random3"] = "worst",  # which annotation
) -> Dataset:
    """CIFAR-10 with human training labels: 9 % (aggregate), 17 % (random) or 40 % (worst) are wrong."""
    return _relabelled(CIFAR10, "CIFAR-10_human.pt", LABELS[labels], root, offline)


@datasets.register("cifar100n", **HUNDRED, **{**SHARED, "balanced": False, "paper": WEI})
def cifar100n(root: Path, offline: bool) -> Dataset:
    """CIFAR-100 with human training labels, of which 40 % are wrong."""
    return _relabelled(CIFAR100, "CIFAR-100_human.pt", "noisy_label", root, offline)


@datasets.register("cifar10h", **TEN, **{**SHARED, "paper": "Peterson et al. 2019, arXiv:1908.07086"})
def cifar10h(
    root: Path,
    offline: bool,
    swap: bool = False,  # train on the images with human labels, and test on CIFAR-10's training images
) -> Dataset:
    """CIFAR-10 whose test images have the labels of about 51 people each, as probabilities of the classes."""
    data = CIFAR10.load(root, offline)
    soft = torch.from_numpy(_array("cifar10h-probs.npy", CIFAR10H_URL, CIFAR10H_MD5, root, offline)).float()
    human = replace(data.test, soft=soft)
    return replace(data, train=human, test=data.train) if swap else replace(data, test=human)
