"""The loop over steps: when to evaluate, to save and to log."""

import math
import sys
import time
from typing import Any

import torch
from torch import Tensor

from ..config.schema import Config
from ..core.dist import ProcessLost
from ..core.errors import out_of_memory
from ..engine.log import Log
from ..engine.lr import current_lr
from ..engine.step import Run, train_step
from ..store.run_folder import RunFolder
from .profile import traced
from .progress import ProgressBar
from .record import Record


class Diverged(Exception):
    """The loss became NaN or infinite."""

    def __init__(self, step: int, lr: float, loss: float):
        super().__init__(f"loss {loss} at step {step} with learning rate {lr:.6g}")
        self.step, self.lr, self.loss = step, lr, loss


def fit(
    run: Run,
    config: Config,
    folder: RunFolder,
    device: torch.device,
    log: Log,
    began: float,
    notes: list[str],
) -> dict[str, Any]:
    """Train to the end of the budget, from the folder's checkpoint if there is one.

    Args:
        began: start of the command, by time.perf_counter.
        notes: what the run said at its start, for the record.
    Returns:
        The content of `result.json`.
    """
    record = Record(run, config, folder, device, log, notes)
    start = record.resume()
    bar, losses = ProgressBar(start, run, log), Losses()
    steps = iter(bar)
    if config.run.profile and run.world.is_main:
        steps = traced(steps, folder.path, device, log)
    # Imports, data, initial weights and compilation of this process: in its first row only.
    once = {"seconds_start": time.perf_counter() - began}
    began = time.perf_counter()
    try:
        for step in steps:
            loss = train_step(run, step)
            lr = current_lr(run.optimizer)
            losses.add(step, lr, loss)
            bar.after(step, losses.so_far)
            last = step + 1 == run.total
            if (step + 1) % run.data.steps_per_epoch and not last:
                continue
            train_loss, count = losses.mean()
            # The loss was finite before the last step, but the weights may not be; keep a good checkpoint.
            if not run.world.on_main(lambda: _finite(run)):
                raise Diverged(step, lr, math.nan)
            epoch = math.ceil((step + 1) / run.data.steps_per_epoch)
            row = {"epoch": epoch, "step": step + 1, "lr": lr, "train_loss": train_loss}
            row |= once | _timing(run, device, count, time.perf_counter() - began)
            once = {}
            if last or epoch % config.run.evaluate_every == 0:
                row |= record.evaluate(epoch, last)
            row["train_accuracy"] = _accuracy(run)  # after the test accuracy, which is the headline
            record.add(row)
            if last or epoch % config.run.save_every == 0:
                record.save(step + 1)
            began = time.perf_counter()
    except Diverged as error:
        return record.finish("diverged", {"step": error.step, "lr": error.lr, "loss": str(error.loss)})
    except (KeyboardInterrupt, ProcessLost):
        record.finish("interrupted", {})
        raise
    except Exception as error:
        if out_of_memory(error):
            record.finish("out of memory", {})
        raise
    return record.finish("ok", record.predict())


class Losses:
    """Step losses of the current epoch, copied to the host every 50 steps.

    Raises:
        Diverged: one of them is NaN or infinite.
    """

    at_once = 50  # often enough to stop a diverged run early, too rarely to slow a GPU down

    def __init__(self):
        self._pending: list[tuple[int, float, Tensor]] = []  # step, learning rate, loss on the device
        self._read: list[float] = []

    def add(self, step: int, lr: float, loss: Tensor) -> None:
        self._pending.append((step, lr, loss))
        if len(self._pending) == self.at_once:
            self._fetch()

    def so_far(self) -> float:
        """The mean of the losses of the epoch until now."""
        self._fetch()
        return sum(self._read) / len(self._read)

    def mean(self) -> tuple[float, int]:
        """The mean of the losses since the last call, and their number."""
        mean, count = self.so_far(), len(self._read)
        self._read.clear()
        return mean, count

    def _fetch(self) -> None:
        """Synchronize with the device."""
        if not self._pending:
            return
        values = torch.stack([loss for *_, loss in self._pending]).tolist()
        for (step, lr, _), value in zip(self._pending, values, strict=True):
            if not math.isfinite(value):
                raise Diverged(step, lr, value)
        self._pending.clear()
        self._read += values


def _finite(run: Run) -> bool:
    """Whether the weights and statistics of all trained networks are finite."""
    tensors = [t for learning in run.learners for t in learning.model.state_dict().values()]
    real = [t for t in tensors if t.is_floating_point()]
    return bool(torch.stack([t.isfinite().all() for t in real]).all())


def _accuracy(run: Run) -> float:
    """The accuracy in training since the last call, of all processes, in percent."""
    right, samples = zip(*run.world.gather_objects(run.learning.accuracy.read()), strict=True)
    return 100 * sum(right) / sum(samples)


def _timing(run: Run, device: torch.device, steps: int, seconds: float) -> dict[str, float]:
    flops = sum(learning.cost.read() for learning in run.learners)
    flops, peaks = zip(*run.world.gather_objects((flops, _peak_memory(device))), strict=True)
    parts = {"data": 0.0, **run.clock.read()}
    return {
        "seconds_train": seconds,
        **{f"seconds_{part}": spent for part, spent in parts.items()},
        "flops": sum(flops),
        "images_per_second": steps * run.images / seconds,  # those that are learned from
        "peak_memory_mb": max(peaks) / 2**20,  # of the process that has the highest
    }


def _peak_memory(device: torch.device) -> int:
    """Bytes, of the device or of this process; 0 where the system does not count them."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # Unix only
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # counted in bytes on macOS, elsewhere in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
