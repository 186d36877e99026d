"""Estimate the time of runs from a few training steps of each row of a grid.

A program, `python -m lib.grid.timing`, because torch and its memory on the device are then gone before the
runs start. Reads the time of its start, and command lines by row, as JSON from stdin, and prints one line of
JSON for each row.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

MAX_STEPS, MAX_SECONDS = 4, 1.5  # timed steps of a row: at most 4, and no further one after 1.5 s
BUDGET = 25.0  # seconds for all rows; a row that is left out counts as the mean of the others


@dataclass(frozen=True)
class Timing:
    """Estimated seconds of a run of a row."""

    row: str
    start: float  # before the first step, and after the last evaluation
    train: float
    evaluate: float
    device: str

    @property
    def seconds(self) -> float:
        return self.start + self.train + self.evaluate


def time_row(row: str, arguments: Sequence[str]) -> Timing:
    """Build the run as train.py does, and time steps in the middle of its budget.

    BadInput if it cannot be built, for example because its data are missing: nothing is downloaded.
    """
    from ..config.cli import parse
    from ..factory import build, build_device, process_of

    began = time.perf_counter()
    config = parse(list(arguments)).config()
    settings = config.settings | {"data": replace(config.data, offline=True)}
    device = build_device(config.run.device)
    with process_of(config):
        run = build(replace(config, settings=settings), device, note=lambda line: None)
        start = time.perf_counter() - began
        step = _seconds_per_step(run, device)
        evaluations = math.ceil(math.ceil(config.train.epochs) / config.run.evaluate_every)
        evaluate = (evaluations - 1) * _seconds_of_evaluation(run) + _seconds_of_evaluation(run, last=True)
    return Timing(row, start, step * run.total, evaluate, device.type)


def _seconds_per_step(run, device) -> float:
    from ..engine.step import train_step

    middle, taken = run.total // 2, 0
    train_step(run, middle)  # warm-up: allocates memory and selects kernels
    _synchronize(device)
    began = time.perf_counter()
    while taken < MAX_STEPS and time.perf_counter() - began < MAX_SECONDS:
        taken += 1
        train_step(run, min(middle + taken, run.total - 1))
        _synchronize(device)
    return (time.perf_counter() - began) / taken


def _seconds_of_evaluation(run, last: bool = False) -> float:
    """Of the split that is watched; the last one takes all splits, test-time views and averages."""
    from ..engine.evaluate import BATCH, evaluate, networks

    averages = {name: a.model for name, a in run.averages.items() if last or not a.needs_statistics}
    seconds = 0.0
    for split in list(run.splits.values())[: None if last else 1]:
        part = split.take(slice(0, BATCH))
        for model in networks(run.model, averages, run.views if last else {}).values():
            evaluate(model, part, run.normalize, run.precision)  # warm-up
            began = time.perf_counter()
            evaluate(model, part, run.normalize, run.precision)
            seconds += (time.perf_counter() - began) * len(split) / len(part)
    return seconds


def _synchronize(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _overhead(started: float) -> float:
    """Seconds of a run besides its build, steps and evaluations: the interpreter's start, imports, curves.

    Args:
        started: when this process was started, by time.time.
    """
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401  (imported at the start of a run)

    from .. import factory  # noqa: F401
    from ..report.plots.curves import draw_curves

    draw_curves([{"epoch": 1, "lr": 0.1, "train_loss": 1.0, "test_accuracy": 50.0}], "at the end of a run")
    return time.time() - started


def main() -> None:
    from ..core.errors import BadInput

    began, request = time.perf_counter(), json.load(sys.stdin)
    overhead = _overhead(request["started"])
    for row, arguments in request["rows"].items():
        try:
            timing = time_row(row, arguments)
            line = asdict(replace(timing, start=timing.start + overhead))
        except (BadInput, RuntimeError) as error:  # RuntimeError: out of memory
            line = {"row": row, "error": str(error)}
        print(json.dumps(line), flush=True)
        if time.perf_counter() - began > BUDGET:
            break


if __name__ == "__main__":
    main()
