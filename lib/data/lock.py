"""A file that one process writes while the others wait: the runs of a grid start together on one set."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[BinaryIO]:
    """`path`, made where it is missing, open to read and append for this process alone.

    Raises:
        OSError: it cannot be made or opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        with contextlib.suppress(
            OSError
        ):  # some network file systems know no locks: there, start one run first
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
