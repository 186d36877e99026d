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
        locked = _acquire(lock)
        if not _held_elsewhere(job.folder / HOLDER, locked) and not _in_training(job.folder / ".lock"):
            return Claim(job.folder, lock)
    except Timeout:
        return None
    except OSError as error:
        raise BadInput(
            f"cannot write to {job.folder}: {error.strerror}; give another --output-dir"
        ) from error
    lock.release()
    return None


def _acquire(lock: FileLock) -> bool:
    """Take the lock, or raise Timeout if another process has it; False if the file system has no locks."""
    try:
        lock.acquire(timeout=0)
    except NotImplementedError:
        return False
    return True


def _held_elsewhere(path: Path, locked: bool) -> bool:
    """Whether the file names a live holder that the lock does not show."""
    holder = _read(path)
    if not holder:
        return False
    if holder["host"] != socket.gethostname():
        return time.time() - path.stat().st_mtime < STALE_SECONDS
    return not locked and holder["pid"] != os.getpid() and _alive(holder["pid"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # of another user
    return True


def _in_training(path: Path) -> bool:
    """Whether a train.py that was started by other means is training in the folder."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        _acquire(lock)
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
