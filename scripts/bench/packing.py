"""`python -m scripts.bench.packing`: several runs of a network at once on one device, and one after another.

One after another a run has all the threads; at once, as `train.py --seeds` has them, each has a process and
its share of them; on a GPU also beside CUDA's service for several processes (MPS), where it is installed. The
third way is one process whose step is that of all networks, by torch.func.vmap: for the arithmetic with SGD
only, as it could not take all tricks as they are. In a round each way takes its steps, so that whatever else
the machine does hits all of them. The processor's own seconds stand beside those of the wall: on a machine
shared with others they tell more, though threads that wait for each other count too.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
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
from lib.core.errors import BadInput, exit_code, require
from lib.engine.step import Run, train_step
from lib.factory import build, build_device
from lib.grid.local import cpu_count
from scripts.bench import page as benchmark_page
from scripts.bench.vmapped import vmapped

TITLE = "## Many runs on one device"
WARM = 2  # steps that allocate memory and choose kernels
IMAGES = 200 * 50_000  # in a run that is counted by the hour: 200 epochs of CIFAR-10
TRAIN = Path(__file__).parents[2] / "train.py"
Taken = dict[str, float]  # seconds of a step of all runs: wall, and the processor's own


def main(argv: list[str]) -> int:
    return exit_code(bench, argv)


def bench(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench_packing", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--runs", type=int, help="at once; else one for each core, and 10 on a GPU")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--steps", type=int, default=8, help="measured steps of each run in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true", help="put the table in docs/benchmarks.md")
    options = parser.parse_args(argv)
    try:
        for name in ("batch", "steps", "rounds"):
            require(getattr(options, name) > 0, name, "at least 1", getattr(options, name))
        require(options.runs is None or options.runs > 1, "runs", "at least 2", options.runs)
    except ValueError as error:
        raise BadInput(f"--{error}") from error
    # Neither threads nor CUDA may be at work in this process: all that is measured is forked off.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ((kind, machine),) = in_processes(lambda: about(options.device, threads))
    runs = options.runs or (10 if kind == "cuda" else cpu_count())
    share = max(1, (threads if kind == "cpu" else cpu_count()) // runs)
    seeds = range(runs)
    ways: dict[str, Callable[[], Taken]] = {
        "one after another": lambda: in_turn(options, threads, runs),
        "at once, a process each": lambda: at_once(options, share, seeds),
        "at once, by vmap": lambda: together(options, threads, seeds),
    }
    if kind == "cuda":
        ways["at once, a process each, MPS"] = lambda: with_mps(ways["at once, a process each"])
    rounds = measured(ways, options.rounds)
    rows = {
        name: outcome(taken, rounds["one after another"], options, runs) for name, taken in rounds.items()
    }
    starts = start(options)
    text = page(rows, starts, options, runs, machine, threads, share)
    torch.set_num_threads(threads)  # nothing is forked any more
    benchmark_page.publish(text, {"rows": rows, "starts": starts}, torch.device(kind), options.write)


def measured(ways: dict[str, Callable[[], Taken]], rounds: int) -> dict[str, list[Taken]]:
    """What each way has taken in each round, less the ways that do not work here."""
    found: dict[str, list[Taken]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in list(found):
            try:
                found[name].append(ways[name]())
            except (BadInput, OSError, subprocess.CalledProcessError) as error:
                print(f"{name}: left out, {error}", file=sys.stderr)
                del found[name]
                continue
            print(f"{name}: {json.dumps(found[name][-1])}", file=sys.stderr, flush=True)
    return found


def in_processes(*works: Callable[[], Any]) -> list[Any]:
    """The results of functions that run at the same time, each in a fork; None of one that has died.

    Raises:
        BadInput: one of them did.
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


def about(device: str, threads: int) -> tuple[str, str]:
    torch.set_num_threads(threads)
    known = build_device(device)
    return known.type, benchmark_page.machine(known)


def config_of(options: argparse.Namespace, seed: int, line: str = "") -> Config:
    words = f"--model {options.model} --dataset synthetic --data.size {max(512, 8 * options.batch)}"
    words += f" --batch-size {options.batch} --device {options.device} --seed {seed} {line}"
    return parse(words.split()).config()


def built(options: argparse.Namespace, threads: int, seed: int) -> Run:
    torch.set_num_threads(threads)
    config = config_of(options, seed)
    return build(config, build_device(config.run.device), lambda line: None)


def timed(step: Callable[[int], Tensor], steps: int, ready: Callable[[], None]) -> Taken:
    for number in range(WARM):
        step(number).sum().item()
    ready()
    wall, processor = time.perf_counter(), time.process_time()
    for number in range(WARM, WARM + steps):
        loss = step(number)
    loss.sum().item()  # the host waits until it is done
    end = time.perf_counter()
    return {"begin": wall, "end": end, "processor": time.process_time() - processor}


def in_turn(options: argparse.Namespace, threads: int, runs: int) -> Taken:
    def work() -> Taken:
        run = built(options, threads, 0)
        return timed(lambda number: train_step(run, number), options.steps, lambda: None)

    one = a_step(in_processes(work), options)
    return {name: runs * seconds for name, seconds in one.items()}


def at_once(options: argparse.Namespace, share: int, seeds: range) -> Taken:
    start = get_context("fork").Barrier(len(seeds), timeout=600)

    def work(seed: int) -> Taken:
        run = built(options, share, seed)
        return timed(lambda number: train_step(run, number), options.steps, start.wait)

    return a_step(in_processes(*(lambda seed=seed: work(seed) for seed in seeds)), options)


def with_mps(way: Callable[[], Taken]) -> Taken:
    """The way while a service of our own lets the processes compute at the same time, and not in turns."""
    control = ["nvidia-cuda-mps-control"]
    names = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")  # which the processes inherit
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
        raise BadInput("a process has died; fewer --runs at once need less memory")
    wall = max(one["end"] for one in taken) - min(one["begin"] for one in taken)
    processor = sum(one["processor"] for one in taken)
    return {"wall": wall / options.steps, "processor": processor / options.steps}


def outcome(taken: list[Taken], others: list[Taken], options: argparse.Namespace, runs: int) -> Taken:
    """Medians of the rounds, the ratios to the first way, and how many runs that makes an hour."""
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
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        line = f"--model {options.model} --dataset synthetic --data.size 64 --batch-size 64 --epochs 1"
        words = f"{line} --device {options.device} --output-dir {folder}".split()
        subprocess.run([sys.executable, str(TRAIN), *words], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "processor": sum(after[:2]) - sum(before[:2])}


def page(
    rows: dict[str, Taken],
    starts: Taken,
    options: argparse.Namespace,
    runs: int,
    machine: str,
    threads: int,
    share: int,
) -> str:
    """The section of docs/benchmarks.md."""
    alone, runs_each = (f"{count} thread{'s' * (count > 1)}" for count in (threads, share))
    about = (
        f"Made by `{benchmark_page.command()}` on {machine}: {runs} runs of {options.model}, "
        f"batches of {options.batch} images, fp32. Times are those of a step of all {runs}, by the wall and "
        f"by the processors, with ratios to one after another: there and by vmap a process has {alone}, else "
        f"{runs_each}. Runs an hour are runs of 200 epochs of 50,000 images, by the wall and without "
        f"evaluation. Medians of {options.rounds} rounds of {options.steps} steps."
    )
    lines = [
        f"{TITLE}\n\n{textwrap.fill(about, 110)}\n",
        "| runs | wall, ms | ratio | processor, ms | ratio | runs an hour |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {1e3 * row['wall']:.0f} | {row['wall_ratio']:.2f} | {1e3 * row['processor']:.0f} | "
        f"{row['processor_ratio']:.2f} | {row['runs_an_hour']:.2g} |"
        for name, row in rows.items()
    ]
    lines += [
        "",
        textwrap.fill(
            f"A run of one step, from its start to its record, takes {starts['processor']:.1f} s of the "
            "processor.",
            110,
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
