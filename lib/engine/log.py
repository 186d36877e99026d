"""The log of a run: lines on the console and in log.txt, and times."""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from ..core.files import unwritable


class Log:
    """Prints lines above the progress bar, and appends them to a file."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, line: str) -> None:
        tqdm.write(line)
        sys.stdout.flush()  # a pipe holds lines back
        try:
            # Opened for each line: an open file would try to write again, and fail, when the program ends.
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        except OSError as error:
            raise unwritable(self.path, error) from error


class Clock:
    """Measures the seconds spent in named parts of a step, without synchronizing with the device."""

    def __init__(self, device: torch.device):
        self.device = device
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: dict[str, list] = defaultdict(list)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        if self.device.type == "cuda":
            # Work is only queued here; events in the stream of the device measure how long it takes.
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events[part].append((start, end))
        else:
            start = time.perf_counter()
            yield
            self._seconds[part] += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """The seconds of each part since the last call."""
        if self._events:
            torch.cuda.synchronize(self.device)
        for part, events in self._events.items():
            self._seconds[part] += sum(start.elapsed_time(end) for start, end in events) / 1000
        seconds = dict(self._seconds)
        self._seconds.clear()
        self._events.clear()
        return seconds
