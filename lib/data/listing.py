"""The image files of a folder: `train/<class>/*` and `test/<class>/*`, or those of a `labels.csv`."""

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import BadInput
from ..core.files import printable
from .base import stratified_order
from .labels import LABELS, read_labels

# By part, the names that its folder may have.
FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
PARTS = {name: part for part, names in FOLDERS.items() for name in names}
KINDS = {"train": "training", "val": "validation", "test": "test"}

# Written by operating systems and file servers, besides names that begin with a dot; in lower case.
SYSTEM = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r"}

Classes = dict[str, list[str]]  # by class, its files relative to the base
LeftOut = dict[str, list[str]]  # by reason, paths relative to the base


@dataclass(frozen=True, eq=False)
class Listing:
    """The image files of a folder, part by part and sorted by class.

    There may be millions, and a worker process copies each object that it reads: so they are stored in a few
    large objects, and not in one per file.
    """

    base: Path
    classes: tuple[str, ...]
    counts: dict[str, int]  # images of train, of val if it has one, and of test, in this order
    left_out: LeftOut
    y: Tensor  # (N,) int64 classes
    names: bytes  # paths of all files relative to `base`, concatenated
    ends: Tensor  # (N,) where each ends in `names`
    sizes: Tensor  # (N,) bytes
    times: Tensor  # (N,) time of the last change in ns

    def __len__(self) -> int:
        return len(self.y)

    def places(self) -> dict[str, slice]:
        """By part, the indices of its images."""
        ends = torch.tensor([0, *self.counts.values()]).cumsum(0).tolist()
        return {part: slice(*span) for part, *span in zip(self.counts, ends, ends[1:], strict=False)}

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

    def state(self, places: slice, image_size: int) -> str:
        """A digest of the image size and of the files at these places: name, size and time of change."""
        names = map(self.name, range(len(self))[places])
        files = list(zip(names, self.sizes[places].tolist(), self.times[places].tolist(), strict=True))
        return hashlib.blake2b(repr((image_size, files)).encode(), digest_size=16).hexdigest()

    def summary(self) -> str:
        """The numbers of images that were found, and of files and folders that were left out, in words."""
        counts = [f"{count:,} {KINDS[part]}" for part, count in self.counts.items()]
        left_out = [f"{len(paths):,} {why}, such as {paths[0]}" for why, paths in self.left_out.items()]
        found = f"{', '.join(counts[:-1])} and {counts[-1]}, of {len(self.classes):,} classes"
        said = f"images in {self.base}: {found}" + (f"; left out: {', '.join(left_out)}" if left_out else "")
        return printable(said)


def list_images(base: Path, test_part: float = 0.0) -> Listing:
    """The listing of the images under `base`.

    Args:
        test_part: fraction of the training images that becomes the test set of a folder without one.
    Raises:
        BadInput: the folder has another structure, or cannot be read.
    """
    left_out: LeftOut = defaultdict(list)
    try:
        parts = _with_test(base, _parts(base, left_out), test_part)
        _check(base, parts)
        names = [name for classes in parts.values() for files in classes.values() for name in files]
        stats = [_stat(os.path.join(base, name)) for name in names]
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}; repair or remove it") from error
    coded = [os.fsencode(name) for name in names]
    counts = torch.tensor([len(files) for classes in parts.values() for files in classes.values()])
    return Listing(
        base,
        classes=tuple(map(printable, parts["train"])),
        counts={part: sum(map(len, classes.values())) for part, classes in parts.items()},
        left_out=dict(left_out),
        y=torch.arange(len(parts["train"])).repeat(len(parts)).repeat_interleave(counts),
        names=b"".join(coded),
        ends=torch.tensor([len(name) for name in coded]).cumsum(0),
        sizes=torch.tensor([found.st_size for found in stats]),
        times=torch.tensor([found.st_mtime_ns for found in stats]),
    )


def _stat(path: str) -> os.stat_result:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device might never end
        raise BadInput(f"cannot read {path}: it is not a file; remove it")
    return found


def _parts(base: Path, left_out: LeftOut) -> dict[str, Classes]:
    """By part, its classes, sorted; val and test may be missing."""
    if (base / LABELS).is_file():
        table = read_labels(base / LABELS, PARTS)
        rows = {file for classes in table.values() for files in classes.values() for file in files}
        others = {os.path.normpath(file) for file in _files(base, ".", (), left_out)} - rows
        if unlisted := sorted(file for file in others if file != LABELS and not file.endswith(".pt")):
            left_out[f"files without a row in {LABELS}"] = unlisted
        return {part: dict(sorted(table[part].items())) for part in FOLDERS if part in table}
    parts = {}
    for name, part in PARTS.items():
        if not (base / name).is_dir():
            continue
        if part in parts:
            left_out[f"folders next to another of {KINDS[part]} images"].append(name)
        else:
            parts[part] = _classes(base, name, left_out)
    return parts


def _with_test(base: Path, parts: dict[str, Classes], test_part: float) -> dict[str, Classes]:
    """The parts with a test set: their own, else the validation images, else some of the training images."""
    if "train" not in parts:
        raise BadInput(
            f"{base} has no folder train/; an image folder has train/<class>/* and test/<class>/*, or a "
            f"{LABELS} with rows file,class,split"
        )
    if "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
    if "test" in parts and test_part:
        raise BadInput(f"{base} has test images; leave out --data.test-part")
    if "test" not in parts:
        if not test_part:
            raise BadInput(
                f"{base} has no folder test/ or val/; add one, or give --data.test-part 0.2 to test on a "
                "fifth of the training images"
            )
        parts["train"], parts["test"] = _split(parts["train"], test_part)
    return parts


def _split(classes: Classes, test_part: float) -> tuple[Classes, Classes]:
    """Without a fraction of the images, which is stratified and the same in every run; and these."""
    files = [(name, file) for name, files in classes.items() for file in files]
    y = torch.arange(len(classes)).repeat_interleave(torch.tensor([*map(len, classes.values())]))
    test = set(stratified_order(y)[: round(test_part * len(y))].tolist())
    parts: tuple[Classes, Classes] = ({name: [] for name in classes}, {name: [] for name in classes})
    for place, (name, file) in enumerate(files):
        parts[place in test][name].append(file)
    return parts


def _classes(base: Path, part: str, left_out: LeftOut) -> Classes:
    """By class, the files of a part: of its sub-folders, or of its table."""
    if (base / part / LABELS).is_file():
        classes = read_labels(base / part / LABELS, {}).get("train", {})
        return {name: [f"{part}/{file}" for file in files] for name, files in sorted(classes.items())}
    found: Classes = {}
    for entry in _visible(base, part, left_out):
        if entry.is_dir():
            files = _files(base, f"{part}/{entry.name}", (), left_out)
            found[entry.name] = sorted(files, key=lambda name: name.split("/"))
        else:
            left_out["files outside of the folders of classes"].append(f"{part}/{entry.name}")
    return found


def _files(base: Path, folder: str, above: tuple, left_out: LeftOut) -> Iterator[str]:
    """All files but hidden ones, through links too; every one must be an image."""
    found = os.stat(base / folder)
    here = (found.st_dev, found.st_ino)
    if here in above:
        left_out["links to a folder above them"].append(folder)
        return
    for entry in _visible(base, folder, left_out):
        if entry.is_dir():
            yield from _files(base, f"{folder}/{entry.name}", (*above, here), left_out)
        else:
            yield f"{folder}/{entry.name}"


def _visible(base: Path, folder: str, left_out: LeftOut) -> Iterator[os.DirEntry]:
    with os.scandir(base / folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name[0] == "." or entry.name.lower() in SYSTEM:
                left_out["hidden or system files and folders"].append(f"{folder}/{entry.name}")
            else:
                yield entry


def _check(base: Path, parts: dict[str, Classes]) -> None:
    train = parts["train"]
    for part, classes in parts.items():
        if differing := sorted(train.keys() ^ classes.keys()):
            raise BadInput(
                f"the classes of the training and {KINDS[part]} images under {base} differ: "
                f"{', '.join(differing[:5])} of {len(differing)} are in one only; make them the same"
            )
    if len(train) < 2:
        raise BadInput(f"{base / 'train'} has {len(train)} class folders; classification needs at least 2")
    for part, classes in parts.items():
        if empty := [name for name, images in classes.items() if not images]:
            raise BadInput(
                f"class {empty[0]} has no {KINDS[part]} images under {base}; add some, or remove the class"
            )
