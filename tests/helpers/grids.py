"""Grids for tests, and processes to wait for."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from lib.grid.spec import Grid, read_grid


def write_grid(text: str) -> Grid:
    """Write `g.yaml` in the current folder and read it."""
    Path("g.yaml").write_text(text)
    return read_grid(Path("g.yaml"))


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_until(holds: Callable[[], bool], log: Path, seconds: float = 180.0) -> None:
    """Wait for a condition; fail with the content of the log when it takes too long."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, log.read_text() if log.exists() else "no output"
        time.sleep(0.02)
