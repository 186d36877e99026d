"""Tiny ImageNet and CINIC-10: archives of image files, decoded once and cached as one tensor.

The archives are read as they are; they need not be unpacked.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..core.registry import datasets
from .archives import Archive
from .base import Dataset, Split
from .cache import cached
from .cifar import CIFAR10
from .decoding import VERSION, CenterCrop, decode
from .download import damaged

# MD5 and statistics: of many users of Tiny ImageNet, whose authors publish none; of CINIC-10's README.
TINY = Archive(
    name="tiny-imagenet-200.zip",
    folder="tiny-imagenet-200",
    digest="90528d7ca1a48142e341f4ef8d21d0de",
    urls=(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "https://zenodo.org/records/10720917/files/tiny-imagenet-200.zip",
    ),
)
CINIC = Archive(
    name="CINIC-10.tar.gz",
    folder="CINIC-10",
    digest="6ee4d0c996905fe93221de577967a372",
    urls=(
        "https://datashare.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
        "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
    ),
)
TINY_STATISTICS = {"mean": (0.4802, 0.4481, 0.3975), "std": (0.2770, 0.2691, 0.2821)}
CINIC_STATISTICS = {"mean": (0.4789, 0.4723, 0.4305), "std": (0.2421, 0.2383, 0.2587)}


@dataclass(frozen=True)
class Layout:
    """What the files of an archive are."""

    archive: Archive
    size: int  # of the images
    parts: dict[str, int]  # images of each part that is read, as published
    label: Callable[[str, str], tuple[str, str]]  # (name of an image, annotations) -> (its part, its class)
    annotations: str = ""  # name of a text file

    def load(self, classes: list[str], root: Path, offline: bool) -> list[Split]:
        """The parts, each sorted by the names of its files."""
        place = self.archive.place(root, offline)
        base = place if place.is_dir() else place.parent
        key = f"decoder {VERSION}: {self.archive.state(place)}"
        compute = partial(self._decode, place, classes)
        found = cached(base, root, f"decoded-{self.archive.folder}", key, compute)
        return [Split(found[f"{part}_x"], found[f"{part}_y"]) for part in self.parts]

    def _wanted(self, name: str) -> bool:
        return name == self.annotations or (name.split("/")[0] in self.parts and not name.endswith(".txt"))

    def _decode(self, place: Path, classes: list[str]) -> dict[str, Tensor]:
        self.archive.check(place)
        annotations, images = "", {}
        total = sum(self.parts.values())
        with ThreadPoolExecutor() as pool, tqdm(desc="decoding", total=total, disable=None) as bar:
            for name, content in self.archive.files(place, self._wanted):
                if name == self.annotations:
                    annotations = content.decode()
                else:
                    images[name] = pool.submit(decode, place / name, CenterCrop(self.size), content=content)
                    bar.update()
        members: dict[str, list[tuple[str, int]]] = {part: [] for part in self.parts}
        for name in sorted(images):
            try:
                part, label = self.label(name, annotations)
                members[part].append((name, classes.index(label)))
            except (LookupError, ValueError) as error:
                raise damaged(place, "a class of every image", f"none of {name}") from error
        found = {}
        for part, count in self.parts.items():
            if len(members[part]) != count:
                raise damaged(place, f"{count} images of {part}", str(len(members[part])))
            found[f"{part}_x"] = torch.stack([images.pop(name).result() for name, _ in members[part]])
            found[f"{part}_y"] = torch.tensor([label for _, label in members[part]])
        return found


def _tiny_label(name: str, annotations: str) -> tuple[str, str]:
    part, wnid, *_ = name.split("/")
    return part, wnid if part == "train" else _wnids_of_validation(annotations)[name]


@cache
def _wnids_of_validation(annotations: str) -> dict[str, str]:
    """WordNet ids of the validation images, from lines of file, id and box."""
    rows = (line.split("\t") for line in annotations.splitlines())
    return {f"val/images/{file}": wnid for file, wnid, *_ in rows}


def _tiny_classes(place: Path) -> dict[str, str]:
    """WordNet ids in order, each with the first of its words; with the id where two classes share that."""
    texts = dict(TINY.files(place, ("wnids.txt", "words.txt").__contains__))
    try:
        words = dict(line.split("\t") for line in texts["words.txt"].decode().splitlines())
        first = {wnid: words[wnid].partition(",")[0] for wnid in sorted(texts["wnids.txt"].decode().split())}
    except (LookupError, ValueError) as error:
        raise damaged(place, "names of the classes in wnids.txt and words.txt", "others") from error
    names = list(first.values())
    return {wnid: f"{name} {wnid}" if names.count(name) > 1 else name for wnid, name in first.items()}


TINY_LAYOUT = Layout(
    archive=TINY,
    size=64,
    parts={"train": 100_000, "val": 10_000},
    label=_tiny_label,
    annotations="val/val_annotations.txt",
)
CINIC_LAYOUT = Layout(
    archive=CINIC,
    size=32,
    parts={"train": 90_000, "test": 90_000, "valid": 90_000},
    label=lambda name, annotations: tuple(name.split("/")[:2]),
)


# The labels of the test images are not published, so the validation images are the test set. The names of the
# classes are in the archive, so no fact is stated here.
@datasets.register("tiny_imagenet", balanced=True, augment=("crop", "flip"), paper="Le and Yang 2015")
def tiny_imagenet(root: Path, offline: bool) -> Dataset:
    """110,000 photographs of ImageNet in 200 classes, 64x64; the test images are the validation images."""
    classes = _tiny_classes(TINY.place(root, offline))
    parts = TINY_LAYOUT.load(list(classes), root, offline)
    return Dataset(*parts, classes=tuple(classes.values()), **TINY_STATISTICS)


@datasets.register(
    "cinic10",
    classes=CIFAR10.classes,
    shape=(3, 32, 32),
    train=90_000,
    test=90_000,
    balanced=True,
    augment=("crop", "flip"),
    paper="Darlow et al. 2018, arXiv:1810.03505",
    **CINIC_STATISTICS,
)
def cinic10(root: Path, offline: bool) -> Dataset:
    """270,000 images of CIFAR-10 and ImageNet in CIFAR-10's classes; a third is for validation."""
    train, test, val = CINIC_LAYOUT.load(list(CIFAR10.classes), root, offline)
    return Dataset(train, test, CIFAR10.classes, **CINIC_STATISTICS, val=val)
