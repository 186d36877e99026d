"""`python -m scripts.bench.models [pattern...]`: throughput and memory of the models on this device.

The table has training and inference throughput and the peak memory of a training step. With `--against timm`
(or torchvision, or all) it has the step time and the memory of ours over those of the public implementation
with the same weights. Each memory is measured in a separate process; two models that are compared alternate
step by step in one process, and their medians are compared.
"""

import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.core.errors import exit_code
from lib.core.precision import autocast
from lib.core.registry import models
from lib.factory import build_device
from scripts.bench import harness
from scripts.bench.counterparts import COUNTERPARTS

Build = Callable[[], nn.Module]


def main() -> None:
    parser = harness.parser(__doc__, batch=32, steps=5, precision="fp32", device="auto")
    parser.add_argument("patterns", nargs="*", default=["*"], help="patterns of models' names; default all")
    parser.add_argument("--against", choices=("timm", "torchvision", "all"), help="compare with its models")
    parser.add_argument("--set", default="", help="option for the models that have it: checkpointing=true")
    options = parser.parse_args()

    bench = Bench(options.batch, options.steps, options.precision, options.device)
    ours = chosen(options.patterns, options.set)
    title, measured = "## Models", survey(ours, bench)
    if options.against:
        ours = {n: b for n, b in ours.items() if n in COUNTERPARTS and options.against in ("all", library(n))}
        title, measured = "## Models and public implementations", compare(ours, bench)
    rows = []
    for row in measured:
        rows.append(row)
        harness.progress(", ".join(f"{key} {_cell(value)}" for key, value in row.items()))
    about = f": batches of {options.batch}, {options.precision}, channels-last, SGD with momentum."
    heads = list(rows[0]) if rows else []
    labels = sum(isinstance(value, str) for value in (rows[0].values() if rows else ()))
    table = harness.table(heads, [map(_cell, row.values()) for row in rows], labels)
    device = build_device(options.device)
    harness.publish(harness.section(title, about, device, table), {"rows": rows}, device, options.write)


def _cell(value: str | float) -> str:
    """Ratios with three decimals, throughputs with none."""
    return value if isinstance(value, str) else f"{value:,.3f}" if value < 10 else f"{value:,.0f}"


def chosen(patterns: list[str], option: str) -> dict[str, Build]:
    """The models with matching names; with an option `key=value`, those that have it, set to the value."""
    entries = {entry.name: entry for pattern in patterns for entry in models.entries(pattern)}
    entries = {name: entry for name, entry in entries.items() if not entry.placeholders}
    key, _, value = option.partition("=")
    if not key:
        return {name: entry.build for name, entry in entries.items()}
    return {
        name: partial(entry.build, **{key: entry.fields[key].parse(value)})
        for name, entry in entries.items()
        if key in entry.fields
    }


def survey(ours: dict[str, Build], bench: "Bench") -> Iterator[dict[str, str | float]]:
    for name, build in ours.items():
        training, inference = apart(bench.throughput, build)
        memory, count = apart(bench.memory, build)
        yield {
            "model": name,
            "parameters": count,
            "training images/s": training,
            "inference images/s": inference,
            "peak memory of a step, MiB": memory,
        }


def compare(ours: dict[str, Build], bench: "Bench") -> Iterator[dict[str, str | float]]:
    for name, build in ours.items():
        mine, theirs = (1e3 * seconds for seconds in apart(bench.duel, build, COUNTERPARTS[name]))
        (held, _), (their_held, _) = apart(bench.memory, build), apart(bench.memory, COUNTERPARTS[name])
        yield {
            "model": name,
            "library": library(name),
            "step, ms": mine,
            "theirs, ms": theirs,
            "time ratio": mine / theirs,
            "peak memory, MiB": held,
            "theirs, MiB": their_held,
            "memory ratio": held / their_held,
        }


def library(name: str) -> str:
    """The library of the counterpart."""
    factory = COUNTERPARTS[name]
    return getattr(factory, "func", factory).__name__.partition("_")[0]


def apart(work: Callable, *arguments):
    """The result of `work` in a new process, so that its memory holds nothing of other measurements."""
    # Forked, because the imports take seconds; this process has started no threads and no GPU yet.
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, arguments)


class Trial:
    """A network with its optimizer and a batch."""

    def __init__(self, build: Build, batch: int, precision: str, device: torch.device):
        torch.manual_seed(0)
        self.precision, self.device = precision, device
        self.model = build().to(device, memory_format=torch.channels_last)
        self.x = torch.randn(batch, 3, 32, 32, device=device)
        self.y = torch.arange(batch, device=device) % 10
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)

    def forward(self) -> Tensor:
        with autocast(self.device, self.precision):
            return self.model(self.x)

    def train(self) -> float:
        """Seconds of a training step."""
        self.model.train()

        def step() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(self.forward().float(), self.y).backward()
            self.optimizer.step()

        return harness.timed(step, self.device).wall

    @torch.inference_mode()
    def infer(self) -> float:
        """Seconds of a forward pass in eval mode."""
        self.model.eval()
        return harness.timed(self.forward, self.device).wall


class Bench:
    """The measurements; each runs in a separate process."""

    def __init__(self, batch: int, steps: int, precision: str, device: str):
        self.batch, self.steps, self.precision, self.device = batch, steps, precision, device

    def trial(self, build: Build) -> Trial:
        return Trial(build, self.batch, self.precision, build_device(self.device))

    def throughput(self, build: Build) -> tuple[float, float]:
        """Images per second in training and in inference."""
        trial = self.trial(build)
        return self.batch / self._median(trial.train)[0], self.batch / self._median(trial.infer)[0]

    def duel(self, ours: Build, theirs: Build) -> list[float]:
        """The median seconds of a training step of each."""
        return self._median(*(self.trial(build).train for build in (ours, theirs)))

    def _median(self, *works: Callable[[], float]) -> list[float]:
        turns = [lambda number, work=work: work() for work in works]
        return [statistics.median(seconds) for seconds in harness.in_turns(turns, self.steps)]

    def memory(self, build: Build) -> tuple[float, int]:
        """The peak of a few training steps in MiB, with weights and optimizer; and the parameter count."""
        before = _peak()  # a forked process starts with the memory of its parent
        trial = self.trial(build)
        for _ in range(harness.WARM_UP + 1):
            trial.train()
        if trial.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(trial.device) / 2**20
        else:
            peak = _peak() - before
        return peak, sum(p.numel() for p in trial.model.parameters())


def _peak() -> float:
    """Peak memory of this process in MiB; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    sys.exit(exit_code(main))
