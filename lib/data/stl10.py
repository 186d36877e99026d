"""STL-10 (Coates et al. 2011, "An analysis of single-layer networks in unsupervised feature learning")."""

from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from ..core.registry import datasets
from .archives import Archive
from .base import Dataset, Split
from .cache import cached
from .download import damaged, verify

# MD5: torchvision.datasets.stl10.
ARCHIVE = Archive(
    name="stl10_binary.tar.gz",
    folder="stl10_binary",
    digest="91f7769df0f17e558f3565bffb0c7dfb",
    urls=(
        "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    ),
)
FILES = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
}
FOLDS = "fold_indices.txt"  # a line for each of the ten folds of 1,000 training images
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
MEAN, STD = (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)


@datasets.register(
    "stl10",
    classes=CLASSES,
    shape=(3, 96, 96),
    train=5_000,
    test=8_000,
    mean=MEAN,
    std=STD,
    balanced=True,
    augment=("crop", "flip"),
    paper="Coates et al. 2011",
)
def stl10(
    root: Path,
    offline: bool,
    fold: Annotated[int, Interval(ge=0, le=9)] | None = None,  # train on one of the ten folds of 1,000 images
) -> Dataset:
    """13,000 labelled photographs in 10 classes, 96x96; the 100,000 without labels are not read."""
    place = ARCHIVE.place(root, offline)
    base = place if place.is_dir() else place.parent
    # The archive holds 2.6 GB of other images, through which every start would have to read.
    found = cached(base, root, "labelled-stl10", ARCHIVE.state(place), partial(_read, place))
    train, test = (Split(found[f"{part}_X.bin"], found[f"{part}_y.bin"]) for part in ("train", "test"))
    return Dataset(train if fold is None else train.take(found[FOLDS][fold]), test, CLASSES, MEAN, STD)


def _read(place: Path) -> dict[str, Tensor]:
    found = {}
    for name, data in ARCHIVE.files(place, lambda name: name in FILES or name == FOLDS):
        if name == FOLDS:
            found[name] = torch.tensor([list(map(int, line.split())) for line in data.decode().splitlines()])
            continue
        verify(data, FILES[name], place / name, place)
        values = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        # Classes count from 1, and images are stored column by column.
        images = name.endswith("_X.bin")
        found[name] = values.view(-1, 3, 96, 96).mT.contiguous() if images else values.long() - 1
    if missing := {*FILES, FOLDS} - found.keys():
        raise damaged(place, "all files of STL-10", f"no {min(missing)}")
    return found
