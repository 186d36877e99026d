"""`python -m scripts.lr_find --model X ...`: suggest a learning rate from one short run in which it rises.

The range test of Smith 2015 (arXiv:1506.01186, section 3.3), with a learning rate that rises by the same
ratio each step. It uses the training step itself with another schedule, so wrappers, precision, accumulation,
clipping and augmentations are those of a run with the same flags. Everything is restored afterwards.
"""

import copy
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.config.cli import parse
from lib.core import dist
from lib.core.errors import BadInput, exit_code, require, where
from lib.core.files import write_atomic
from lib.engine.step import Run, train_step
from lib.factory import build, build_device, process_of
from lib.optim.decays import Exponential
from lib.report.style import PALE, encode, plain, sheet, styled

from .arguments import Parser, file_path

DIVERGED = 4.0  # times the lowest smoothed loss: where the search ends
SMOOTHING = 0.9  # of the running mean that is compared to it


@dataclass(frozen=True)
class Finding:
    rates: list[float]  # learning rate of each step
    losses: list[float]  # of its batch, before the step
    smooth: list[float]  # the same, averaged over neighbouring steps
    lowest: float  # learning rate where the smoothed loss is lowest
    steepest: float  # learning rate where it falls fastest
    diverged: bool  # whether the loss diverged before the last step

    @property
    def suggestion(self) -> float:
        """A tenth of the learning rate with the lowest loss, where the loss still falls.

        The steepest point is the other common choice. As a derivative it is noisier, and after a flat start
        it may be much too small.
        """
        return self.lowest / 10

    def remarks(self) -> list[str]:
        """Reasons to doubt the suggestion."""
        found = []
        if self.lowest == self.rates[0]:
            found.append("the loss never fell: give a smaller --min-lr, or more --steps")
        if not self.diverged and self.lowest == self.rates[-1]:
            found.append("the loss still fell at the end: give a larger --max-lr")
        return found


def find(run: Run, base: float, low: float, high: float, steps: int) -> Finding:
    """Raise the learning rate from `low` to `high`. The state of `run` is restored.

    Args:
        base: the learning rate of the optimizer; groups keep their ratio to it.
        steps: the number of steps.
    Raises:
        ValueError: the bounds are not a range, there are too few steps, or the first ones diverge.
    """
    require(0 < low < high, "min-lr", f"above 0 and below max-lr {high:g}", low)
    require(steps >= 10, "steps", "at least 10", steps)
    ramp = Exponential(start=low / base, end=high / base)
    # The last step has the highest learning rate. Averages are not needed.
    epochs = (steps - 1) / run.data.steps_per_epoch
    trial = replace(run, schedule=ramp, epochs=epochs, averages={})
    rates: list[float] = []
    losses: list[float] = []
    mean, best, diverged = 0.0, math.inf, False
    with restored(run):
        for step in range(steps):
            # Synchronizes in each step, as the loss decides whether to continue.
            loss = train_step(trial, step).item()
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            unbiased = mean / (1 - SMOOTHING ** (step + 1))
            if diverged := not unbiased < DIVERGED * best:  # NaN counts too
                break
            rates.append(base * ramp(step / run.data.steps_per_epoch, epochs))
            losses.append(loss)
            best = min(best, unbiased)
    require(len(losses) >= 3, "min-lr", "so small that the first steps do not diverge", low)
    return judge(rates, losses, diverged)


def judge(rates: list[float], losses: list[float], diverged: bool = False) -> Finding:
    """Find where the smoothed loss is lowest, and where before that its slope over log(lr) is steepest."""
    smooth = centred_mean(np.array(losses), max(1, len(losses) // 20))
    lowest = int(smooth.argmin())
    slope = np.gradient(smooth, np.log(rates))
    steepest = int(slope[: max(1, lowest)].argmin())
    return Finding(rates, losses, smooth.tolist(), rates[lowest], rates[steepest], diverged)


def centred_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each value and up to `reach` neighbours on both sides."""
    window = np.ones(2 * reach + 1)
    counts = np.convolve(np.ones(len(values)), window)[reach : reach + len(values)]
    return np.convolve(values, window)[reach : reach + len(values)] / counts


@contextmanager
def restored(run: Run) -> Iterator[None]:
    """Restore weights, statistics, optimizer states and loss scales of all networks at the end."""
    before = [copy.deepcopy(learning.state_dict()) for learning in run.learners]
    try:
        yield
    finally:
        for learning, state in zip(run.learners, before, strict=True):
            learning.load_state_dict(state)
        run.optimizer.zero_grad(set_to_none=True)


@styled
def draw(finding: Finding, title: str) -> bytes:
    """A plot of the loss over the learning rate, as a PNG."""
    figure = sheet(4.2, width=7)
    panel = figure.subplots()
    panel.plot(finding.rates, finding.losses, color=PALE, linewidth=1, label="loss of each step")
    panel.plot(finding.rates, finding.smooth, color="C0", linewidth=2, label="smoothed")
    for rate, color, style, name in (
        (finding.suggestion, "C2", "-", "suggested: a tenth of the lowest point's"),
        (finding.steepest, "C1", "--", "steepest fall"),
        (finding.lowest, "C3", ":", "lowest point"),
    ):
        panel.axvline(rate, color=color, linestyle=style, label=f"{name}, {rate:.3g}")
    panel.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=plain(title))
    # The last losses may be many times the others, which would then look like a flat line.
    low, high = min(finding.losses), max(finding.losses)
    span = max(finding.smooth[0] - low, 0.1 * abs(low), 1e-3)
    panel.set_ylim(low - 0.1 * span, min(low + 2 * span, high + 0.1 * span))
    panel.legend()
    return encode(figure, dpi=110)


def lr_find(argv: list[str]) -> Finding:
    """Print the suggestion for this command line, draw the curve, and return the finding."""
    parser = Parser(
        prog="python -m scripts.lr_find",
        description=__doc__.partition(": ")[2].partition("\n")[0],
        epilog="All flags of train.py are understood too: --model, --optim, --batch-size, --precision...",
    )
    parser.add_argument("-o", "--output", type=file_path, default=Path("lr_find.png"), help="PNG to write")
    parser.add_argument(
        "--min-lr", "--base-lr", "--base_lr", type=float, default=1e-7, help="first learning rate"
    )
    parser.add_argument("--max-lr", "--max_lr", type=float, default=10.0, help="last learning rate")
    parser.add_argument("--steps", "--num-iter", "--num_iter", type=int, default=100, help="number of steps")
    options, rest = parser.parse_known_args(argv)
    dist.require_single_process("the LR finder")
    command = parse(rest)
    if command.action != "train":
        raise BadInput(f"--{command.action} is an option of train.py only; remove it")
    config = command.config()
    base = config.chosen["optim"].options["lr"]
    with where("LR finder"), process_of(config):
        run = build(config, build_device(config.run.device), print)
        finding = find(run, base, options.min_lr, options.max_lr, options.steps)
    for note in (*config.notes, *finding.remarks()):
        print(f"note: {note}")
    ended = "the loss diverged" if finding.diverged else "it ended"
    rates = finding.rates
    print(f"{len(rates)} steps from learning rate {rates[0]:.3g} to {rates[-1]:.3g}, where {ended}")
    print(f"lowest loss at {finding.lowest:.3g}, steepest fall at {finding.steepest:.3g}")
    print(f"suggested learning rate (a tenth of the lowest point's): {finding.suggestion:.3g}")
    title = ", ".join(config.chosen[section].entry.name for section in ("model", "data", "optim"))
    write_atomic(options.output, draw(finding, title))
    print(f"curve: {options.output}")
    return finding


def main(argv: list[str]) -> int:
    def run() -> None:  # the finding is not an exit code
        lr_find(argv)

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
