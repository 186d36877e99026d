"""Published archives of one folder: read where the user unpacked them, from the archive, or downloaded."""

import hashlib
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ..core.errors import BadInput
from .download import KINDS, damaged, fetch, verify


@dataclass(frozen=True)
class Archive:
    name: str
    folder: str  # in which its files are, or into which people unpack it
    digest: str
    urls: tuple[str, ...]  # mirrors

    def place(self, root: Path, offline: bool) -> Path:
        """The folder under `root` (or `root` itself), else the archive, which is downloaded if it is missing.

        Raises:
            BadInput: it cannot be downloaded.
        """
        for folder in (root / self.folder, root):
            if folder.is_dir() and folder.absolute().name == self.folder:
                return folder
        path = root / self.name
        return path if path.exists() else fetch(self.name, self.urls, self.digest, root, offline)

    def check(self, place: Path) -> None:
        """Raise BadInput if an archive has another digest. A folder has none; its files are checked."""
        if place.is_dir():
            return
        with open(place, "rb") as file:
            kind = KINDS[len(self.digest)]
            found = hashlib.file_digest(file, kind).hexdigest()
        if found != self.digest:
            raise damaged(place, f"{kind} {self.digest}", f"{found} in {place.stat().st_size} bytes")

    def state(self, place: Path) -> str:
        """What changes with the files: the digest of the archive, or names, sizes and times in the folder."""
        if not place.is_dir():
            return self.digest
        state = hashlib.sha256()
        for path in sorted(place.rglob("*")):
            if path.suffix != ".pt":  # our own cache
                state.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
        return state.hexdigest()

    def files(self, place: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """Names within the folder and bytes of the files whose names are wanted, in any order.

        Raises:
            BadInput: the archive is damaged.
        """
        try:
            for name, read in _entries(place):
                name = PurePosixPath(name).as_posix().removeprefix(f"{self.folder}/")
                if wanted(name):
                    yield name, read()
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise damaged(place, "files that can be read", str(error) or type(error).__name__) from error

    def read(self, place: Path, name: str, digest: str) -> bytes:
        """One file, verified by its own digest."""
        data = next((data for _, data in self.files(place, name.__eq__)), None)
        if data is None:
            raise BadInput(f"{place} has no {name}; delete it and run again, or give another --root")
        verify(data, digest, place / name, place)
        return data


def _entries(place: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Names of all files, and functions that read them before the next one is asked for."""
    if place.is_dir():
        for path in place.rglob("*"):
            if path.is_file():
                yield path.relative_to(place).as_posix(), path.read_bytes
    elif place.suffix == ".zip":
        with zipfile.ZipFile(place) as whole:
            for name in whole.namelist():
                yield name, partial(whole.read, name)
    else:
        with tarfile.open(place) as whole:
            for member in whole:
                if member.isfile():
                    yield member.name, lambda member=member: whole.extractfile(member).read()
