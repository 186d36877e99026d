"""The right to carry out a run: several launchers may work on one grid, and no run is done twice.

A lock on a file in the run's folder, which the run itself inherits: it lasts as long as one of the two lives,
and is gone with them, however they end. Where the file system's locks do not reach other machines, the file
tells who has the run, and is touched as long as that is so: one that was touched a while ago counts no more.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import BadInput
from .job import Job

FILE = ".claim"
TOUCH_EVERY = 15.0  # seconds
STALE = 120.0  # seconds without a touch after which a launcher on another machine is taken for dead


class Claim:
    """A run that is this process's own until `release`."""

    def __init__(self, path: Path, file: int):
        self.path, self.file = path, file  # `file` is a descriptor, for the run to inherit
        self._mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "time": time.time_ns()})
        self._touched = 0.0

    def write(self) -> None:
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, self._mine.encode(), 0)
        self._touched = time.monotonic()

    def keep(self) -> bool:
        """Touch the file when it is time to; False if another machine has taken the run meanwhile."""
        if time.monotonic() - self._touched < TOUCH_EVERY:
            return True
        if _read(self.path) != json.loads(self._mine):
            return False
        os.utime(self.file)
        self._touched = time.monotonic()
        return True

    def release(self) -> None:
        with contextlib.suppress(OSError):
            if _read(self.path) == json.loads(self._mine):
                os.ftruncate(self.file, 0)
        os.close(self.file)


def claim(job: Job) -> Claim | None:
    """The right to carry out a run; None while another process has it.

    Raises:
        BadInput: the run's folder cannot be written to.
    """
    path = job.folder / FILE
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}; give another --output-dir") from error
    try:
        locked = _lock(file)
    except BlockingIOError:
        os.close(file)
        return None
    if _held(path, locked) or _trained(job.folder / ".lock"):
        os.close(file)
        return None
    mine = Claim(path, file)
    mine.write()
    return mine


def _lock(file: int) -> bool:
    """Whether the file system has locks at all; raises BlockingIOError where another process has this one."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _held(path: Path, locked: bool) -> bool:
    """Whether the file tells of a process that has the run, though the lock does not."""
    holder = _read(path)
    if not holder:
        return False
    if holder["host"] != socket.gethostname():
        return time.time() - path.stat().st_mtime < STALE
    return not locked and holder["pid"] != os.getpid() and _alive(holder["pid"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _trained(lock: Path) -> bool:
    """Whether a train.py that somebody else has started is at work in the folder."""
    with _opened(lock) as file:
        if file is None:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


def _read(path: Path) -> dict | None:
    """Who has the run, as its file tells; None where nobody has, or it is half written."""
    try:
        holder = json.loads(path.read_text())
        return holder if {"host", "pid"} <= holder.keys() else None
    except (OSError, ValueError, AttributeError):
        return None
