"""Downloads: mirrors in order, resumed after a lost connection, verified by MD5 or SHA-256."""

import hashlib
import os
import sys
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from ..core.errors import BadInput

KINDS = {32: "md5", 64: "sha256"}  # of a digest, by its number of hexadecimal digits
TIMEOUT = 5  # seconds without an answer; short, so that a machine without network reports it soon


def fetch(filename: str, urls: Sequence[str], digest: str, folder: Path, offline: bool) -> Path:
    """The file `filename` in `folder` with this digest, downloaded if it is missing.

    Args:
        urls: mirrors, in the order to try.
        offline: never use the network.
    Raises:
        BadInput: the file is damaged, or it is missing and cannot be downloaded.
    """
    path = folder / filename
    if path.exists():
        read_verified(path, digest)
    elif offline:
        raise _unavailable(path, digest, "--offline forbids downloading it")
    else:
        _download(path, urls, digest)
    return path


def read_verified(path: Path, digest: str | None, remove: Path | None = None) -> bytes:
    """The bytes of a file, verified against its digest unless that is None.

    Args:
        remove: what the user must delete if the file is damaged; the file itself by default.
    Raises:
        BadInput: the file is missing, cannot be read or has another digest.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; {_remedy(remove or path)}") from error
    if digest:
        verify(data, digest, path, remove)
    return data


def verify(data: bytes, digest: str, path: Path, remove: Path | None = None) -> None:
    """Raise BadInput unless the bytes, read from `path`, have this digest."""
    kind = KINDS[len(digest)]
    if (found := hashlib.new(kind, data).hexdigest()) != digest:
        raise damaged(path, f"{kind} {digest}", f"{found} in {len(data)} bytes", remove)


def damaged(path: Path, expected: str, found: str, remove: Path | None = None) -> BadInput:
    """The error for a file that differs from the published one."""
    return BadInput(f"{path} is damaged: expected {expected}, found {found}; {_remedy(remove or path)}")


def _remedy(path: Path) -> str:
    return f"delete {path} and run again, or give another folder with --root"


def _unavailable(path: Path, digest: str, reason: str) -> BadInput:
    name = f"{path.name} ({KINDS[len(digest)]} {digest})"
    return BadInput(
        f"{name} is not in {path.parent.absolute()}, and {reason}; put it there, give its folder with "
        "--root, or train on --dataset digits, which needs no download"
    )


def _download(path: Path, urls: Sequence[str], digest: str) -> None:
    kind = KINDS[len(digest)]
    part, problems = path.with_name(f"{path.name}.part"), []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):  # the runs of a grid start together
            if path.exists():  # another run downloaded it while this one waited
                return
            for url in urls:
                with open(part, "a+b") as file:
                    problem = _pull(url, file)
                    file.seek(0)
                    found = "" if problem else hashlib.file_digest(file, kind).hexdigest()
                if found == digest:
                    os.replace(part, path)
                    return
                if found or not part.stat().st_size:
                    part.unlink()
                problems.append(f"{urlsplit(url).netloc}: {problem or f'sends a file with {kind} {found}'}")
    except OSError as error:
        raise BadInput(f"cannot write {part}: {error.strerror}; give another folder with --root") from error
    raise _unavailable(path, digest, f"no mirror has it ({', '.join(problems)})")


def _pull(url: str, file: BinaryIO) -> str:
    """Append the missing bytes, reconnecting as long as bytes arrive; returns the problem, or ""."""
    size, problem = -1, ""
    while file.seek(0, os.SEEK_END) > size:
        size = file.tell()
        try:
            if _connect(url, file, size):
                return ""
            problem = "the connection was lost"
        except (OSError, HTTPException) as error:
            problem = str(getattr(error, "reason", error))
    return problem


def _connect(url: str, file: BinaryIO, size: int) -> bool:
    """Download from byte `size` on over one connection; returns whether the file is then complete."""
    request = Request(url, headers={"Range": f"bytes={size}-"} if size else {})
    try:
        reply = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # no bytes after this one: the file is complete, or its MD5 is wrong
            return True
        raise
    with reply:
        if reply.status != 206:  # the server does not support ranges and starts again
            file.truncate(0)
            size = 0
        length = reply.headers["Content-Length"]
        total = size + int(length) if length else None
        name = os.path.basename(url)
        if not sys.stderr.isatty():  # where there is no bar
            print(f"downloading {name} from {urlsplit(url).hostname}", file=sys.stderr, flush=True)
        with tqdm(desc=name, total=total, initial=size, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := reply.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        return total is None or file.tell() == total
