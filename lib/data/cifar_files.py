"""The forms in which the CIFAR sets are published (Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html).

Each set comes as raw records and as pickles of Python, either as a folder or as the archive of it. Bytes are
unpickled only when their MD5 is the published one, because a pickle runs whatever code it holds.
"""

import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..core.errors import BadInput
from .base import Dataset, Split
from .download import damaged, fetch, read_verified

PIXELS = 3 * 32 * 32  # channel first, in both forms

Arrays = tuple[np.ndarray, np.ndarray]  # (N, PIXELS) images and (N, levels) classes, both uint8


@dataclass(frozen=True)
class File:
    name: str
    images: int
    md5: str | None = None  # None for raw records, which are checked by their form


@dataclass(frozen=True)
class Form:
    """One way in which a set is published."""

    folder: str
    archive: str
    md5: str  # of the archive
    files: tuple[File, ...]  # of the training images, and last the one of the test images
    parse: Callable[[bytes], Arrays]
    record: int | None = None  # bytes an image, where the size of a file follows from it


@dataclass(frozen=True)
class Source:
    """A form that is there: how its files are read, and what to delete if one of them is damaged."""

    form: Form
    path: Path
    read: Callable[[File], bytes]
    remove: Path | None = None  # the file itself by default


@dataclass(frozen=True)
class Cifar:
    classes: tuple[str, ...]
    levels: tuple[int, ...]  # classes at each level of labels, coarse to fine; the finest is the target
    mean: tuple[float, ...]
    std: tuple[float, ...]
    forms: tuple[Form, ...]  # in the order in which they are looked for; the first is the one to download
    urls: tuple[str, ...]  # mirrors of the archive of the first form

    def load(self, root: Path, offline: bool) -> Dataset:
        """The set from a folder under `root` (or `root` itself), else an archive under it, else the network.

        Raises:
            BadInput: a file is missing, damaged or cannot be had.
        """
        source = self._folder(root) or self._archive(root, offline)
        *train, test = (self._split(source, file) for file in source.form.files)
        train = Split(torch.cat([part.x for part in train]), torch.cat([part.y for part in train]))
        return Dataset(train, test, self.classes, self.mean, self.std)

    def _folder(self, root: Path) -> Source | None:
        for form in self.forms:
            for folder in (root / form.folder, root):
                named = folder.is_dir() and folder.absolute().name == form.folder
                if named or any((folder / file.name).is_file() for file in form.files):
                    remove = folder if named else None
                    return Source(form, folder, partial(_read, folder, remove=remove), remove)
        return None

    def _archive(self, root: Path, offline: bool) -> Source:
        form = next((form for form in self.forms if (root / form.archive).exists()), None)
        if form is None:
            form = self.forms[0]
            fetch(form.archive, self.urls, form.md5, root, offline)
        path = root / form.archive
        # Read once: the bytes that were verified are the bytes that are used, whatever becomes of the file.
        with tarfile.open(fileobj=io.BytesIO(read_verified(path, form.md5))) as archive:
            data = {file: archive.extractfile(f"{form.folder}/{file.name}").read() for file in form.files}
        return Source(form, path, data.__getitem__, path)

    def _split(self, source: Source, file: File) -> Split:
        data, path, record = source.read(file), source.path / file.name, source.form.record
        if record and len(data) != file.images * record:
            expected = f"{file.images * record} bytes, {file.images} records of {record}"
            raise damaged(path, expected, str(len(data)), source.remove)
        x, labels = source.form.parse(data)
        wrong = (labels >= np.array(self.levels)).any(1)
        if wrong.any():
            expected = f"classes below {' and '.join(map(str, self.levels))}"
            first = wrong.argmax()
            raise damaged(path, expected, f"{labels[first]} in record {first}", source.remove)
        images, target = x.reshape(-1, 3, 32, 32), labels[:, -1].astype(np.int64)
        return Split(torch.from_numpy(images), torch.from_numpy(target))


def parse_records(data: bytes, levels: int) -> Arrays:
    """Records of `levels` label bytes, coarse to fine, and the pixels."""
    records = np.frombuffer(data, np.uint8).reshape(-1, levels + PIXELS)
    return records[:, levels:].copy(), records[:, :levels]


def parse_pickle(data: bytes) -> Arrays:
    """A dict with the pixels and a list for each level of labels. Only for bytes whose MD5 was verified."""
    entry = pickle.loads(data, encoding="latin1")  # written by Python 2
    levels = [entry[key] for key in ("coarse_labels", "fine_labels", "labels") if key in entry]
    return entry["data"], np.array(levels, np.uint8).T


def _read(folder: Path, file: File, remove: Path | None) -> bytes:
    path = folder / file.name
    if not path.exists():
        raise BadInput(f"{path} is missing: put it there, or give another folder with --root")
    return read_verified(path, file.md5, remove)
