"""The image files of a folder: `train/<class>/*` and `test/<class>/*` (else `val/<class>/*`)."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import BadInput


@dataclass(frozen=True, eq=False)
class Listing:
    """The image files of a folder, sorted by class: those of train, then those of test.

    There may be millions, and a worker process copies each object that it reads: so they are stored in a few
    large objects, and not in one per file.
    """

    base: Path
    classes: tuple[str, ...]
    count: int  # training images
    y: Tensor  # (N,) int64 classes
    names: bytes  # paths of all files relative to `base`, concatenated
    ends: Tensor  # (N,) where each ends in `names`
    sizes: Tensor  # (N,) bytes
    times: Tensor  # (N,) time of the last change in ns

    def __len__(self) -> int:
        return len(self.y)

    def name(self, place: int) -> str:
        """The path of a file relative to `base`."""
        start = int(self.ends[place - 1]) if place else 0
        return os.fsdecode(self.names[start : int(self.ends[place])])

    def path(self, place: int) -> str:
        return os.path.join(self.base, self.name(place))

    def evidence(self, places: Tensor) -> Iterator[bytes]:
        """Names and sizes of the files at these places (n,), in order."""
        starts = torch.cat((self.ends.new_zeros(1), self.ends))[places].tolist()
        for start, end, size in zip(
            starts, self.ends[places].tolist(), self.sizes[places].tolist(), strict=True
        ):
            yield self.names[start:end] + b"\0%d\0" % size

    def state(self, places: Tensor, image_size: int) -> str:
        """A digest of the image size and of the files at these places (n,): name, size and time of change."""
        names = map(self.name, places.tolist())
        files = list(zip(names, self.sizes[places].tolist(), self.times[places].tolist(), strict=True))
        return hashlib.blake2b(repr((image_size, files)).encode(), digest_size=16).hexdigest()


def list_images(base: Path) -> Listing:
    """The listing of the images under `base`.

    Raises:
        BadInput: the folder has another structure, or cannot be read.
    """
    try:
        parts = [_classes(part) for part in _parts(base)]
        _check(base, *parts)
        sizes, times = [], []
        for part in parts:
            for name in (name for names in part.values() for name in names):
                stat = os.stat(os.path.join(base, name))
                sizes.append(stat.st_size)
                times.append(stat.st_mtime_ns)
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}; repair or remove it") from error
    coded = [os.fsencode(name) for part in parts for names in part.values() for name in names]
    counts = torch.tensor([len(names) for part in parts for names in part.values()])
    return Listing(
        base,
        classes=tuple(parts[0]),
        count=sum(map(len, parts[0].values())),
        y=torch.arange(len(parts[0])).repeat(2).repeat_interleave(counts),
        names=b"".join(coded),
        ends=torch.tensor([len(name) for name in coded]).cumsum(0),
        sizes=torch.tensor(sizes),
        times=torch.tensor(times),
    )


def _parts(base: Path) -> tuple[Path, Path]:
    test = base / "test" if (base / "test").is_dir() else base / "val"
    for part, names in ((base / "train", "train/"), (test, "test/ or val/")):
        if not part.is_dir():
            raise BadInput(
                f"{base} has no folder {names}; an image folder has train/<class>/* and test/<class>/*"
            )
    return base / "train", test


def _classes(part: Path) -> dict[str, list[str]]:
    """By class, the files in its sub-folder of `part`."""
    names = sorted(entry.name for entry in part.iterdir() if entry.is_dir() and entry.name[0] != ".")
    return {name: _files(part, part / name) for name in names}


def _files(part: Path, folder: Path) -> list[str]:
    """All files but hidden ones, which file managers write; every other file must be an image."""

    def fail(error: OSError) -> None:
        raise error

    found = []
    for place, _, names in os.walk(folder, onerror=fail):
        below = os.path.relpath(place, part.parent)
        found += [f"{below}/{name}" for name in names if name[0] != "."]
    return sorted(found, key=lambda name: name.split("/"))


def _check(base: Path, train: dict[str, list[str]], test: dict[str, list[str]]) -> None:
    if differing := sorted(train.keys() ^ test.keys()):
        raise BadInput(
            f"the classes of the training and test images under {base} differ: "
            f"{', '.join(differing[:5])} of {len(differing)} are in one only; make the sub-folders the same"
        )
    if len(train) < 2:
        raise BadInput(f"{base / 'train'} has {len(train)} class folders; classification needs at least 2")
    for part in (train, test):
        if empty := [name for name, images in part.items() if not images]:
            kind = "training" if part is train else "test"
            raise BadInput(
                f"class {empty[0]} has no {kind} images under {base}; add some, or remove the class"
            )
