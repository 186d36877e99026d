"""Mounts that only this process and its children see; for forked processes, on Linux."""

import ctypes
import os
from pathlib import Path

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # CLONE_NEWNS and CLONE_NEWUSER of <sched.h>
READ_ONLY, AGAIN, BIND, RECURSIVE, PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000  # MS_... of <sys/mount.h>
LIBC = ctypes.CDLL(None, use_errno=True)


def own_mounts() -> None:
    """Let the mounts of this process be its own from now on.

    Raises:
        OSError: the system does not allow it.
    """
    _check(LIBC.unshare(NEW_MOUNTS if os.getuid() == 0 else NEW_MOUNTS | NEW_USER))
    _mount("none", "/", None, RECURSIVE | PRIVATE)


def mount_small(folder: str, size: int, again: bool = False) -> None:
    """Mount an empty file system of `size` bytes at a folder, or give the one that is there another size."""
    Path(folder).mkdir(exist_ok=True)
    _mount("tmpfs", folder, "tmpfs", AGAIN if again else 0, f"size={size}")


def read_only_here() -> None:
    """Make the current folder read-only, even for root."""
    here = os.getcwd()
    _mount(here, here, None, BIND)
    _mount("none", here, None, BIND | AGAIN | READ_ONLY)
    os.chdir(here)  # into the mount


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = (word and word.encode() for word in (source, target, kind))
    _check(LIBC.mount(*words, ctypes.c_ulong(flags), data.encode()))


def _check(code: int) -> None:
    if code:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
