"""`python -m scripts.bench.packing`: several runs of a network at once on one device, and one after another.

One after another, a run has all threads. At once, as with `train.py --seeds`, each run has a process and its
fraction of the threads; on a GPU this is also measured with CUDA's Multi-Process Service (MPS), where it is
installed. The third way is one process with a joint step of all networks, by torch.func.vmap: only for the
arithmetic of SGD, because vmap does not support all tricks. Each round takes the ways in turn. Processor time
is given in addition to wall time: it is the better measure on a shared machine, though it includes threads
that wait for each other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.config.cli import parse
from lib.config.schema import Config
from lib.core.errors import BadInput, exit_code
from lib.engine.step import Run, train_step
from lib.factory import build, build_device
from lib.grid.local import cpu_count
from scripts.bench import harness
from scripts.bench.vmapped import vmapped

IMAGES = 200 * 50_000  # in a run of 200 epochs of CIFAR-10, for runs per hour
TRAIN = Path(__file__).parents[2] / "train.py"
Taken = dict[str, float]  # seconds of a step of all runs: wall, processor


def main() -> None:
    parser = harness.parser(__doc__, batch=128, steps=8, rounds=3, device="auto")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--runs", type=int, help="at once; default one per core, 10 on a GPU")
    options = parser.parse_args()
    if options.runs is not None and options.runs < 2:
        parser.error(f"--runs must be at least 2, got {options.runs}")
    # This process must start neither threads nor CUDA: all measurements are forked.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (kind,) = in_processes(lambda: build_device(options.device).type)
    runs = options.runs or (10 if kind == "cuda" else cpu_count())
    threads_each = max(1, (threads if kind == "cpu" else cpu_count()) // runs)
    seeds = range(runs)
    ways: dict[str, Callable[[], Taken]] = {
        "one after another": lambda: in_turn(options, threads, runs),
        "at once, a process each": lambda: at_once(options, threads_each, seeds),
        "at once, by vmap": lambda: together(options, threads, seeds),
    }
    if kind == "cuda":
        ways["at once, a process each, MPS"] = lambda: with_mps(ways["at once, a process each"])
    rounds = measured(ways, options.rounds)
    rows = {
        name: outcome(taken, rounds["one after another"], options, runs) for name, taken in rounds.items()
    }
    starts, device = start(options), torch.device(kind)
    torch.set_num_threads(threads)  # no more forks
    text = page(rows, starts, options, device, runs, threads_each)
    harness.publish(text, {"rows": rows, "starts": starts}, device, options.write)


def measured(ways: dict[str, Callable[[], Taken]], rounds: int) -> dict[str, list[Taken]]:
    """The times of each way in each round, without the ways that fail on this machine."""
    found: dict[str, list[Taken]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in list(found):
            try:
                found[name].append(ways[name]())
            except (BadInput, OSError, subprocess.CalledProcessError) as error:
                harness.progress(f"{name}: left out, {error}")
                del found[name]
                continue
            harness.progress(f"{name}: {json.dumps(found[name][-1])}")
    return found


def in_processes(*works: Callable[[], Any]) -> list[Any]:
    """The results of functions that run at the same time, each in a forked process; None if it died.

    Raises:
        BadInput: if one of them raised it.
    """
    context = get_context("fork")
    started = []
    for work in works:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(sender, work))
        process.start()
        sender.close()
        started.append((process, receiver))
    results = []
    for process, receiver in started:
        try:
            results.append(receiver.recv())
        except EOFError:
            results.append(None)
        process.join()
    if error := next((result for result in results if isinstance(result, BadInput)), None):
        raise error
    return results


def _send(sender: Connection, work: Callable[[], Any]) -> None:
    try:
        sender.send(work())
    except BadInput as error:
        sender.send(error)


def config_of(options: argparse.Namespace, seed: int, line: str = "") -> Config:
    words = f"--model {options.model} --dataset synthetic --data.size {max(512, 8 * options.batch)}"
    words += f" --batch-size {options.batch} --device {options.device} --seed {seed} {line}"
    return parse(words.split()).config()


def built(options: argparse.Namespace, threads: int, seed: int) -> Run:
    torch.set_num_threads(threads)
    config = config_of(options, seed)
    return build(config, build_device(config.run.device), lambda line: None)


def timed(step: Callable[[int], Tensor], steps: int, ready: Callable[[], None]) -> Taken:
    for number in range(harness.WARM_UP):
        step(number).sum().item()
    ready()
    wall, processor = time.perf_counter(), time.process_time()
    for number in range(harness.WARM_UP, harness.WARM_UP + steps):
        loss = step(number)
    loss.sum().item()  # waits for the device
    end = time.perf_counter()
    return {"begin": wall, "end": end, "processor": time.process_time() - processor}


def in_turn(options: argparse.Namespace, threads: int, runs: int) -> Taken:
    def work() -> Taken:
        run = built(options, threads, 0)
        return timed(lambda number: train_step(run, number), options.steps, lambda: None)

    one = a_step(in_processes(work), options)
    return {name: runs * seconds for name, seconds in one.items()}


def at_once(options: argparse.Namespace, threads: int, seeds: range) -> Taken:
    start = get_context("fork").Barrier(len(seeds), timeout=600)

    def work(seed: int) -> Taken:
        run = built(options, threads, seed)
        return timed(lambda number: train_step(run, number), options.steps, start.wait)

    return a_step(in_processes(*(lambda seed=seed: work(seed) for seed in seeds)), options)


def with_mps(way: Callable[[], Taken]) -> Taken:
    """The way under a private MPS daemon, which lets the processes compute at the same time."""
    control = ["nvidia-cuda-mps-control"]
    names = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")  # inherited by the processes
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= dict.fromkeys(names, folder)
        try:
            subprocess.run([*control, "-d"], stdout=subprocess.DEVNULL, check=True)
            return way()
        finally:
            subprocess.run(control, input="quit\n", text=True, stdout=subprocess.DEVNULL, check=False)
            for name in names:
                del os.environ[name]


def together(options: argparse.Namespace, threads: int, seeds: range) -> Taken:
    def work() -> Taken:
        step, _ = vmapped([built(options, threads, seed) for seed in seeds])
        return timed(step, options.steps, lambda: None)

    return a_step(in_processes(work), options)


def a_step(taken: list[Taken | None], options: argparse.Namespace) -> Taken:
    if None in taken:
        raise BadInput("a process died; try fewer --runs, which need less memory")
    wall = max(one["end"] for one in taken) - min(one["begin"] for one in taken)
    processor = sum(one["processor"] for one in taken)
    return {"wall": wall / options.steps, "processor": processor / options.steps}


def outcome(taken: list[Taken], others: list[Taken], options: argparse.Namespace, runs: int) -> Taken:
    """Medians of the rounds, their ratios to the first way, and runs per hour."""
    found: Taken = {}
    for name in ("wall", "processor"):
        found[name] = statistics.median(one[name] for one in taken)
        found[f"{name}_ratio"] = statistics.median(
            other[name] / one[name] for one, other in zip(taken, others, strict=True)
        )
    found["runs_an_hour"] = 3600 * runs / (found["wall"] * IMAGES / options.batch)
    return found


def start(options: argparse.Namespace) -> Taken:
    """Seconds of a run of one step, from its start to its record."""
    with tempfile.TemporaryDirectory() as folder:
        line = f"--model {options.model} --dataset synthetic --data.size 64 --batch-size 64 --epochs 1"
        words = [*line.split(), "--device", options.device, "--output-dir", folder]
        command = [sys.executable, str(TRAIN), *words]
        _, wall, processor = harness.timed(
            lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        )
    return {"wall": wall, "processor": processor}


def page(
    rows: dict[str, Taken],
    starts: Taken,
    options: argparse.Namespace,
    device: torch.device,
    runs: int,
    threads_each: int,
) -> str:
    """The section of docs/benchmarks.md."""
    alone, each = (f"{n} thread{'s' * (n > 1)}" for n in (torch.get_num_threads(), threads_each))
    about = (
        f": {runs} runs of {options.model}, batches of {options.batch} images, fp32. Wall and processor time "
        f"of one step of all {runs}, with ratios to one after another. A process has {alone} one after "
        f"another and by vmap, else {each}. Runs per hour are runs of 200 epochs of 50,000 images by wall "
        f"time, without evaluation. Medians of {options.rounds} rounds of {options.steps} steps."
    )
    cells = [
        (
            name,
            *(f"{1e3 * row['wall']:.0f}", f"{row['wall_ratio']:.2f}"),
            *(f"{1e3 * row['processor']:.0f}", f"{row['processor_ratio']:.2f}"),
            f"{row['runs_an_hour']:.2g}",
        )
        for name, row in rows.items()
    ]
    heads = ["runs", "wall, ms", "ratio", "processor, ms", "ratio", "runs per hour"]
    after = f"A run of one step, from start to record, takes {starts['processor']:.1f} s of processor time."
    return harness.section("## Many runs on one device", about, device, harness.table(heads, cells), after)


if __name__ == "__main__":
    sys.exit(exit_code(main))
