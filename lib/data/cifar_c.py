"""CIFAR-10-C and CIFAR-100-C: corrupted test images (Hendrycks and Dietterich 2019, arXiv:1903.12261)."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..core.registry import datasets
from .archives import Archive
from .base import Dataset
from .cifar import CIFAR10, CIFAR100
from .cifar_files import Cifar
from .cifar_variants import HUNDRED, TEN, test_only


@dataclass(frozen=True)
class Corrupted:
    archive: Archive
    cifar: Cifar
    labels: str  # MD5 of labels.npy
    files: dict[str, str]  # MD5 of <corruption>.npy: 10,000 images at severity 1, then at 2, 3, 4 and 5

    def load(self, corruption: str, root: Path, offline: bool) -> Dataset:
        place = self.archive.place(root, offline)
        names = {f"{corruption}.npy": self.files[corruption], "labels.npy": self.labels}
        x, y = (
            np.load(io.BytesIO(self.archive.read(place, name, digest)), allow_pickle=False)
            for name, digest in names.items()
        )
        return test_only(x, y, self.cifar)


# MD5: of the archives, Zenodo; of the files, torch-uncertainty.
CIFAR10_C = Corrupted(
    archive=Archive(
        name="CIFAR-10-C.tar",
        folder="CIFAR-10-C",
        digest="56bf5dcef84df0e2308c6dcbcbbd8499",
        urls=("https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",),
    ),
    cifar=CIFAR10,
    labels="c439b113295ed5254878798ffe28fd54",
    files={
        "brightness": "0a81ef75e0b523c3383219c330a85d48",
        "contrast": "3c8262171c51307f916c30a3308235a8",
        "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
        "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
        "fog": "7b397314b5670f825465fbcd1f6e9ccd",
        "frost": "31f6ab3bce1d9934abfb0cc13656f141",
        "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
        "glass_blur": "7361fb4019269e02dbf6925f083e8629",
        "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
        "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
        "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
        "pixelate": "0f14f7e2db14288304e1de10df16832f",
        "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
        "snow": "bb238de8555123da9c282dea23bd6e55",
        "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
    },
)
CIFAR100_C = Corrupted(
    archive=Archive(
        name="CIFAR-100-C.tar",
        folder="CIFAR-100-C",
        digest="11f0ed0f1191edbf9fa23466ae6021d3",
        urls=("https://zenodo.org/records/3555552/files/CIFAR-100-C.tar",),
    ),
    cifar=CIFAR100,
    labels="bb4026e9ce52996b95f439544568cdb2",
    files={
        "brightness": "f22d7195aecd6abb541e27fca230c171",
        "contrast": "322bb385f1d05154ee197ca16535f71e",
        "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
        "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
        "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
        "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
        "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
        "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
        "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
        "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
        "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
        "pixelate": "96c00c60f144539e14cffb02ddbd0640",
        "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
        "snow": "0237be164583af146b7b144e73b43465",
        "zoom_blur": "0204613400c034a81c4830d5df81cb82",
    },
)
# The four further corruptions of the archives are for tuning, and not part of the mean.
Corruption = Literal[tuple(CIFAR10_C.files)]
SHARED = {
    "shape": (3, 32, 32),
    "train": 0,
    "test": 50_000,
    "corruptions": tuple(CIFAR10_C.files),
    "paper": "Hendrycks and Dietterich 2019, arXiv:1903.12261",
}


@datasets.register("cifar10_c", **TEN, **SHARED)
def cifar10_c(
    root: Path,
    offline: bool,
    corruption: Corruption = "brightness",  # an evaluation takes all of them
) -> Dataset:
    """CIFAR-10's test images under 15 corruptions at 5 severities, as published."""
    return CIFAR10_C.load(corruption, root, offline)


@datasets.register("cifar100_c", **HUNDRED, **SHARED)
def cifar100_c(
    root: Path,
    offline: bool,
    corruption: Corruption = "brightness",  # an evaluation takes all of them
) -> Dataset:
    """CIFAR-100's test images under 15 corruptions at 5 severities, as published."""
    return CIFAR100_C.load(corruption, root, offline)
