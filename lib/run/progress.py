"""How far a run is within its epochs: a bar on a terminal, and in a pipe a line now and then."""

import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from ..engine.step import Run
from ..report.text import duration

SHOWN = 2.0  # seconds between two readings of the loss for the bar
FIRST, LATER = 30.0, 300.0  # between two lines: in the first epoch of this process, and after it


class ProgressBar:
    """Iterates over the remaining steps of a run.

    Args:
        start: the first of them.
        log: called with the lines.
    """

    def __init__(self, start: int, run: Run, log: Callable[[str], None]):
        self.start, self.run, self.log = start, run, log
        off = None if run.world.is_main else True  # None: in a pipe
        steps = range(start, run.total)
        self._bar = tqdm(steps, initial=start, total=run.total, unit="step", disable=off, leave=False)
        self._began = self._said = time.perf_counter()

    def __iter__(self) -> Iterator[int]:
        return iter(self._bar)

    def close(self) -> None:
        self._bar.close()

    def after(self, step: int, mean_loss: Callable[[], float]) -> None:
        """Show how far it is, if that is due.

        Args:
            mean_loss: called only then, as it waits for the device.
        """
        now, done = time.perf_counter(), step + 1 - self.start
        if now - self._said < self._pause(done):
            return
        self._said = now
        per_second = done / (now - self._began)
        text = f"loss {mean_loss():.4f}  {per_second * self.run.images:,.0f} images/s"
        if self._bar.disable:
            left = duration((self.run.total - step - 1) / per_second)
            self.log(f"step {step + 1:,}/{self.run.total:,}  {text}  {left} left")
        else:
            self._bar.set_postfix_str(text)

    def _pause(self, done: int) -> float:
        if not self._bar.disable:
            return SHOWN
        return FIRST if done < self.run.data.steps_per_epoch else LATER
