"""The published formats of CIFAR (Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html): records and pickles.

Both come as an archive or as the folder in it. A pickle can run any code, so its bytes are unpickled only if
their MD5 is the published one.
"""

import io
import pickle
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.errors import BadInput
from .base import Dataset, Split
from .download import damaged, fetch, read_verified

PIXELS = 3 * 32 * 32  # channel first, in both formats

Arrays = tuple[np.ndarray, np.ndarray]  # (N, PIXELS) images and (N, levels) classes, both uint8


@dataclass(frozen=True)
class File:
    name: str
    images: int
    md5: str | None = None  # of a pickle; None for records, of which size and classes are checked


@dataclass(frozen=True)
class Form:
    """One format in which a set is published."""

    folder: str
    archive: str
    md5: str  # of the archive
    files: tuple[File, ...]  # those of the training images, and last that of the test images


@dataclass(frozen=True)
class Cifar:
    classes: tuple[str, ...]
    levels: tuple[int, ...]  # number of classes at each level of labels, coarse to fine
    mean: tuple[float, ...]
    std: tuple[float, ...]
    forms: tuple[Form, ...]  # in the order of search; the first is the one to download
    urls: tuple[str, ...]  # mirrors of the archive of the first form
    level: int = -1  # of the labels that are used; by default the finest

    def load(self, root: Path, offline: bool) -> Dataset:
        """The set from a folder under `root` (or `root` itself), else from an archive, else downloaded.

        Raises:
            BadInput: a file is missing or damaged, or cannot be downloaded.
        """
        path, remove, files = self._read_folder(root) or self._read_archive(root, offline)
        *train, test = (self._split(file, data, path / file.name, remove) for file, data in files)
        train = Split(torch.cat([part.x for part in train]), torch.cat([part.y for part in train]))
        return Dataset(train, test, self.classes, self.mean, self.std)

    def _read_folder(self, root: Path) -> tuple[Path, Path | None, Iterable[tuple[File, bytes]]] | None:
        """The folder, what to delete if it is damaged (None: the damaged file), and its files in order."""
        for form in self.forms:
            for folder in (root / form.folder, root):
                named = folder.is_dir() and folder.absolute().name == form.folder
                if named or any((folder / file.name).is_file() for file in form.files):
                    remove = folder if named else None
                    return folder, remove, ((file, _read(folder, file, remove)) for file in form.files)
        return None

    def _read_archive(self, root: Path, offline: bool) -> tuple[Path, Path, Iterable[tuple[File, bytes]]]:
        """The archive, which is also what to delete if it is damaged, and its files in order."""
        form = next((form for form in self.forms if (root / form.archive).exists()), None)
        if form is None:
            form = self.forms[0]
            fetch(form.archive, self.urls, form.md5, root, offline)
        path = root / form.archive
        # Read once, so that the verified bytes are those that are used even if the file changes.
        with tarfile.open(fileobj=io.BytesIO(read_verified(path, form.md5))) as archive:
            files = [(file, archive.extractfile(f"{form.folder}/{file.name}").read()) for file in form.files]
        return path, path, files

    def _split(self, file: File, data: bytes, path: Path, remove: Path | None) -> Split:
        record = len(self.levels) + PIXELS
        if not file.md5 and len(data) != file.images * record:
            expected = f"{file.images * record} bytes, {file.images} records of {record}"
            raise damaged(path, expected, str(len(data)), remove)
        x, labels = parse_pickle(data) if file.md5 else parse_records(data, len(self.levels))
        wrong = (labels >= np.array(self.levels)).any(1)
        if wrong.any():
            expected = f"classes below {' and '.join(map(str, self.levels))}"
            first = wrong.argmax()
            raise damaged(path, expected, f"{labels[first]} in record {first}", remove)
        target = labels[:, self.level].astype(np.int64)
        return Split(torch.from_numpy(x.reshape(-1, 3, 32, 32)), torch.from_numpy(target))


def parse_records(data: bytes, levels: int) -> Arrays:
    """Records of `levels` label bytes, coarse to fine, and the pixels."""
    records = np.frombuffer(data, np.uint8).reshape(-1, levels + PIXELS)
    return records[:, levels:].copy(), records[:, :levels]


def parse_pickle(data: bytes) -> Arrays:
    """A dict of the pixels and a list for each level of labels. Only for bytes with a verified MD5."""
    entry = pickle.loads(data, encoding="latin1")  # written by Python 2
    levels = [entry[key] for key in ("coarse_labels", "fine_labels", "labels") if key in entry]
    return entry["data"], np.array(levels, np.uint8).T


def _read(folder: Path, file: File, remove: Path | None) -> bytes:
    path = folder / file.name
    if not path.exists():
        raise BadInput(f"{path} is missing: put it there, or give another folder with --root")
    return read_verified(path, file.md5, remove)
