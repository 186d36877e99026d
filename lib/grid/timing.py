"""A short timing of the rows of a grid: a few steps of each, of what it is to train, where it is to train.

A process of its own, for torch takes seconds to import and keeps memory on the device: command lines come in
on stdin, by row, and a line for each row goes out on stdout.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

STEPS, ENOUGH = 4, 1.5  # timed at most so many steps of a row, and no more after so many seconds
BUDGET = 25.0  # seconds for all the rows; those that are left out cost as much as the others on average


@dataclass(frozen=True)
class Timing:
    """What a run of a row costs, in seconds, as far as a few steps can tell."""

    row: str
    start: float  # until the first step
    train: float
    evaluate: float
    device: str

    @property
    def seconds(self) -> float:
        return self.start + self.train + self.evaluate


def time_row(row: str, arguments: Sequence[str]) -> Timing:
    """Build the run as train.py does, and take steps in the middle of its budget.

    Raises:
        BadInput: it cannot be built; its data are not there, for one: nothing is downloaded for a timing.
    """
    from ..config.cli import parse
    from ..factory import build, build_device

    began = time.perf_counter()
    config = parse(list(arguments)).config()
    settings = config.settings | {"data": replace(config.data, offline=True)}
    settings["train"] = config.train.uncompiled()  # minutes are no fair part of a few steps
    device = build_device(config.run.device)
    run = build(replace(config, settings=settings), device, note=lambda line: None)
    began = time.perf_counter() - began
    step = _seconds_a_step(run, device)
    evaluations = math.ceil(math.ceil(config.train.epochs) / config.run.evaluate_every)
    evaluate = _seconds_an_evaluation(run) * evaluations * (1 + len(run.averages))
    return Timing(row, began, step * run.total, evaluate, device.type)


def _seconds_a_step(run, device) -> float:
    from ..engine.step import train_step

    middle, taken, began = run.total // 2, 0, 0.0
    for number in range(STEPS + 1):
        train_step(run, min(middle + number, run.total - 1))
        _wait(device)
        if number == 0:  # the first one allocates, and looks for the fastest kernels
            began = time.perf_counter()
            continue
        taken = number
        if time.perf_counter() - began > ENOUGH:
            break
    return (time.perf_counter() - began) / taken


def _seconds_an_evaluation(run) -> float:
    from ..engine.evaluate import BATCH, evaluate

    split = next(iter(run.splits.values()))
    part = split.take(slice(0, BATCH))
    evaluate(run.model, part, run.normalize, run.precision)
    began = time.perf_counter()
    evaluate(run.model, part, run.normalize, run.precision)
    return (time.perf_counter() - began) * len(split) / len(part)


def _wait(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    from ..core.errors import BadInput

    began = time.perf_counter()
    from .. import factory  # noqa: F401  (torch and all that training needs, which every run imports anew)

    started = time.perf_counter() - began
    for row, arguments in json.load(sys.stdin).items():
        try:
            timing = time_row(row, arguments)
            line = asdict(replace(timing, start=timing.start + started))
        except (BadInput, RuntimeError) as error:  # RuntimeError: out of memory, as the run itself will be
            line = {"row": row, "error": str(error)}
        print(json.dumps(line), flush=True)
        if time.perf_counter() - began > BUDGET:
            break


if __name__ == "__main__":
    main()
