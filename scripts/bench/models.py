"""`python -m scripts.bench.models [pattern...]`: what the models cost on this device.

A table of training and inference throughput and of the peak memory of a training step; with `--against timm`
(or torchvision, or all) the step time and the memory of ours over those of the public implementation with the
same weights. Every memory is taken in a process of its own; the steps of two that are compared alternate in
one process, so that whatever else the machine does hits both, and their medians are compared.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.core.precision import autocast
from lib.core.registry import models
from lib.factory import build_device
from scripts.bench import page as benchmark_page
from scripts.bench.counterparts import COUNTERPARTS
from scripts.bench.page import machine

Build = Callable[[], nn.Module]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"], help="of the models' names; default all")
    parser.add_argument("--against", choices=("timm", "torchvision", "all"), help="compare with its models")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument("--steps", type=int, default=5, help="measured steps of each")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", default="", help="an option, checkpointing=true, of the models that have it")
    parser.add_argument("--write", action="store_true", help="put the table in docs/benchmarks.md")
    options = parser.parse_args()

    bench = Bench(options.batch, options.steps, options.precision, options.device)
    ours = chosen(options.patterns, options.set)
    if options.against:
        ours = {n: b for n, b in ours.items() if n in COUNTERPARTS and options.against in ("all", library(n))}
    title, rows = "## Models", survey(ours, bench)
    if options.against:
        title, rows = "## Models beside public implementations", compare(ours, bench)
    found = []
    for row in rows:
        found.append(row)
        print(", ".join(f"{key} {_cell(value)}" for key, value in row.items()), file=sys.stderr, flush=True)
    about = (
        f"Made by `{benchmark_page.command()}` on {apart(bench.where)}: batches of {options.batch}, "
        f"{options.precision}, channels-last, SGD with momentum."
    )
    text = f"{title}\n\n{about}\n\n{table(found)}"
    benchmark_page.publish(text, {"rows": found}, build_device(options.device), options.write)


def table(rows: list[dict[str, str | float]]) -> str:
    heads = list(rows[0]) if rows else []
    sides = ["---" if isinstance(value, str) else "---:" for value in (rows[0].values() if rows else ())]
    lines = [heads, sides, *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | float) -> str:
    """Ratios with three figures behind the point, throughputs with none."""
    return value if isinstance(value, str) else f"{value:,.3f}" if value < 10 else f"{value:,.0f}"


def chosen(patterns: list[str], option: str) -> dict[str, Build]:
    """The models whose names match, with the option `key=value` if one is given: those that have it."""
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
    """Whose implementation the counterpart is."""
    factory = COUNTERPARTS[name]
    return getattr(factory, "func", factory).__name__.partition("_")[0]


def apart(work: Callable, *arguments):
    """The result of `work` in a process of its own, whose memory holds nothing of the others'."""
    # Forked, for the imports take seconds; nothing here has started a thread or a device before.
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

        return self._timed(step)

    @torch.inference_mode()
    def infer(self) -> float:
        """Seconds of a forward pass in eval mode."""
        self.model.eval()
        return self._timed(self.forward)

    def _timed(self, work: Callable) -> float:
        start = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


class Bench:
    """The measurements, to be made in processes of their own."""

    warm_up = 2  # first steps allocate memory and choose kernels

    def __init__(self, batch: int, steps: int, precision: str, device: str):
        self.batch, self.steps, self.precision, self.device = batch, steps, precision, device

    def where(self) -> str:
        """The machine, in words."""
        return machine(build_device(self.device))

    def trial(self, build: Build) -> Trial:
        return Trial(build, self.batch, self.precision, build_device(self.device))

    def throughput(self, build: Build) -> tuple[float, float]:
        """Images a second in training and in inference."""
        trial = self.trial(build)
        return self.batch / self._median(trial.train)[0], self.batch / self._median(trial.infer)[0]

    def duel(self, ours: Build, theirs: Build) -> list[float]:
        """The median seconds of a training step of each."""
        return self._median(*(self.trial(build).train for build in (ours, theirs)))

    def _median(self, *works: Callable[[], float]) -> list[float]:
        rounds = [[work() for work in works] for _ in range(self.warm_up + self.steps)]
        return [statistics.median(times) for times in zip(*rounds[self.warm_up :], strict=True)]

    def memory(self, build: Build) -> tuple[float, int]:
        """The peak of a few training steps in MiB, weights and optimizer included; and the parameters."""
        before = _peak()  # a forked process begins with what its parent holds
        trial = self.trial(build)
        for _ in range(self.warm_up + 1):
            trial.train()
        if trial.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(trial.device) / 2**20
        else:
            peak = _peak() - before
        return peak, sum(p.numel() for p in trial.model.parameters())


def _peak() -> float:
    """The most memory that this process has held, in MiB; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
