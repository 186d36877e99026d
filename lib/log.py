"""What a run tells while it runs: lines on the console and in log.txt, TensorBoard scalars, times."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm


class Log:
    """Prints lines past the progress bar, and keeps them in a file."""

    def __init__(self, path: Path):
        self.file = open(path, "a", buffering=1)  # noqa: SIM115  (open as long as the run is)

    def __call__(self, line: str) -> None:
        tqdm.write(line)
        self.file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")


class Scalars:
    """Writes numbers to TensorBoard, or nowhere."""

    def __init__(self, folder: Path, enabled: bool, start: int):
        self.writer = None
        if enabled:
            # TensorBoard takes over a second to import, so only runs that write it pay.
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder), purge_step=start)

    def __call__(self, row: dict) -> None:
        for key, value in row.items() if self.writer else ():
            if isinstance(value, int | float) and key not in ("step", "epoch"):
                self.writer.add_scalar(key, value, row["step"])
        if self.writer:
            self.writer.flush()


class Clock:
    """The seconds spent in named parts of the step, measured without waiting for the device."""

    def __init__(self, device: torch.device):
        self.device = device
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: dict[str, list] = defaultdict(list)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        if self.device.type == "cuda":
            # Work is only queued here: events on the device's own time line tell how long it took.
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
        """The seconds of each part since the last reading."""
        if self._events:
            torch.cuda.synchronize(self.device)
        for part, events in self._events.items():
            self._seconds[part] += sum(start.elapsed_time(end) for start, end in events) / 1000
        seconds = dict(self._seconds)
        self._seconds.clear()
        self._events.clear()
        return seconds
