"""Files from the network: mirrors in order, resumed where a connection was cut, believed by MD5 only."""

import hashlib
import os
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from ..core.errors import BadInput
from .lock import exclusive

TIMEOUT = 5  # seconds without an answer; short, so that a machine without network says so at once


def fetch(filename: str, urls: Sequence[str], md5: str, folder: Path, offline: bool) -> Path:
    """The file `filename` in `folder` with this MD5, downloaded if it is not there.

    Args:
        urls: where the file can be had, in the order to try.
        offline: never use the network.
    Raises:
        BadInput: the file is damaged, or it is missing and cannot be had.
    """
    path = folder / filename
    if path.exists():
        read_verified(path, md5)
    elif offline:
        raise _unavailable(path, md5, "--offline forbids to download it")
    else:
        _download(path, urls, md5)
    return path


def read_verified(path: Path, md5: str | None, whole: Path | None = None) -> bytes:
    """The bytes of `path`, which have this MD5 unless it is None.

    Args:
        whole: what to delete if the file is not as it should be; the file itself by default.
    Raises:
        BadInput: the file is missing, cannot be read or has another MD5.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; {_remedy(whole or path)}") from error
    if md5 and (found := hashlib.md5(data).hexdigest()) != md5:
        raise damaged(path, f"md5 {md5}", f"{found} in {len(data)} bytes", whole)
    return data


def damaged(path: Path, expected: str, found: str, whole: Path | None = None) -> BadInput:
    """The error for a file that is not as published."""
    return BadInput(f"{path} is damaged: expected {expected}, found {found}; {_remedy(whole or path)}")


def _remedy(path: Path) -> str:
    return f"delete {path} and run again, or name another folder with --root"


def _unavailable(path: Path, md5: str, reason: str) -> BadInput:
    return BadInput(
        f"{path.name} (md5 {md5}) is not in {path.parent.absolute()}, and {reason}; put it there, name the "
        "folder that has it with --root, or train on --dataset digits, which needs no download"
    )


def _download(path: Path, urls: Sequence[str], md5: str) -> None:
    part, problems = path.with_name(f"{path.name}.part"), []
    try:
        with exclusive(part) as file:
            if path.exists():  # another run has fetched it while this one waited
                return
            for url in urls:
                problem = _pull(url, file)
                file.seek(0)
                if not problem and (found := hashlib.file_digest(file, "md5").hexdigest()) == md5:
                    os.replace(part, path)
                    return
                if not problem:
                    problem = f"sends a file with md5 {found}"
                    file.truncate(0)
                problems.append(f"{urlsplit(url).netloc}: {problem}")
            if not file.seek(0, os.SEEK_END):
                part.unlink()
    except OSError as error:
        raise BadInput(f"cannot write {part}: {error.strerror}; name another folder with --root") from error
    raise _unavailable(path, md5, f"no mirror gave it ({', '.join(problems)})")


def _pull(url: str, file: BinaryIO) -> str:
    """Append to `file` what it lacks, with as many connections as bring anything; what went wrong, or ''."""
    size, problem = -1, ""
    while file.seek(0, os.SEEK_END) > size:
        size = file.tell()
        try:
            if _connect(url, file, size):
                return ""
            problem = "the connection was cut"
        except (OSError, HTTPException) as error:
            problem = str(getattr(error, "reason", error))
    return problem


def _connect(url: str, file: BinaryIO, size: int) -> bool:
    """One connection, from byte `size` on; whether the file is whole after it."""
    request = Request(url, headers={"Range": f"bytes={size}-"} if size else {})
    try:
        reply = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # nothing comes after this byte: the file is whole, or its MD5 is wrong
            return True
        raise
    with reply:
        if reply.status != 206:  # the server knows no ranges and starts again
            file.truncate(0)
            size = 0
        length = reply.headers["Content-Length"]
        total = size + int(length) if length else None
        name = os.path.basename(url)
        with tqdm(desc=name, total=total, initial=size, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := reply.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        return total is None or file.tell() == total
