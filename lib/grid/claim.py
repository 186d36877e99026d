"""The right to run a job: several launchers may work on one grid, and no run is done twice.

A launcher holds a lock in the run's folder until the run has ended. The run itself need not hold it: it dies
with its launcher (guard.py). File locks may not reach other machines, so a second file names the holder, and
is touched regularly: a holder on another machine counts as dead if the file has not been touched for a while.
"""

import contextlib
import json
import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from ..core.errors import BadInput
from .job import Job

LOCK, HOLDER = ".claim", ".claim.json"
TOUCH_SECONDS = 15.0
STALE_SECONDS = 120.0


class Claim:
    """The right of this process to run a job, until `release`."""

    def __init__(self, folder: Path, lock: FileLock):
        self.path, self.lock = folder / HOLDER, lock
        self._holder = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time_ns()}
        self.path.write_text(json.dumps(self._holder))
        self._touched = time.monotonic()

    def renew(self) -> bool:
        """Touch the file if it is time to; False if another machine has taken over the job."""
        if time.monotonic() - self._touched < TOUCH_SECONDS:
            return True
        if _read(self.path) != self._holder:
            return False
        os.utime(self.path)
        self._touched = time.monotonic()
        return True

    def release(self) -> None:
        with contextlib.suppress(OSError):
            if _read(self.path) == self._holder:
                self.path.unlink()
        self.lock.release()


def claim(job: Job) -> Claim | None:
    """Claim a job; None while another process runs it. BadInput if its folder cannot be written to."""
    lock = FileLock(job.folder / LOCK)
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        if not _held_elsewhere(job.folder / HOLDER) and not _is_locked(job.folder / ".lock"):
            return Claim(job.folder, lock)
    except Timeout:
        return None
    except OSError as error:
        raise BadInput(
            f"cannot write to {job.folder}: {error.strerror}; give another --output-dir"
        ) from error
    lock.release()
    return None


def is_running(job: Job) -> bool:
    """Whether any process runs the job."""
    locked = any(_is_locked(job.folder / name) for name in (LOCK, ".lock"))
    return locked or _held_elsewhere(job.folder / HOLDER)


def _held_elsewhere(path: Path) -> bool:
    """Whether the file names a live holder on another machine."""
    holder = _read(path)
    if not holder or holder["host"] == socket.gethostname():
        return False
    # Not within so many seconds of now: a file from the future shows a clock that was set back.
    return abs(time.time() - path.stat().st_mtime) < STALE_SECONDS


def _is_locked(path: Path) -> bool:
    """Whether a process of this machine has the lock: a launcher, or a train.py started by other means."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _read(path: Path) -> dict | None:
    """The holder that the file names; None if there is none, or the file is incomplete."""
    try:
        holder = json.loads(path.read_text())
        return holder if {"host", "pid"} <= holder.keys() else None
    except (OSError, ValueError, AttributeError):
        return None
