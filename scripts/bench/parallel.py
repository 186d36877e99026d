"""`torchrun --nproc-per-node 2 -m scripts.bench.parallel`: steps of all processes beside those of one alone.

On a CPU the one has as many threads as there are processes, so both have the same cores; on GPUs it has the
first of them. Step by step they take turns, so that whatever else the machine does hits both, and both take
the same global batch. The medians are compared. `--write` puts the table in docs/benchmarks.md.
"""

import argparse
import statistics
import sys
import textwrap
import time

import torch

from lib.config.cli import parse
from lib.core import dist
from lib.core.dist import SINGLE, World
from lib.core.errors import BadInput, exit_code, require
from lib.engine.step import Run, train_step
from lib.factory import build, build_device
from scripts.bench import page as benchmark_page

TITLE = "## Several processes"
WARM = 2  # steps that allocate memory and choose kernels


def main(argv: list[str]) -> int:
    return exit_code(dist.main_process_only(bench), argv)


def bench(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench_parallel", description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet20,wrn_16_2,resnet9", help="names, with commas between")
    parser.add_argument("--batch", type=int, default=128, help="images a step, in all processes together")
    parser.add_argument("--steps", type=int, default=12, help="measured steps of each")
    parser.add_argument("--tricks", default="", help="more flags of train.py, such as '--randaugment --ema'")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true", help="put the table in docs/benchmarks.md")
    options = parser.parse_args(argv)
    world = dist.world()
    try:
        require(world.size > 1, "--nproc-per-node", "at least 2", world.size)
        require(options.steps > 0, "--steps", "at least 1", options.steps)
    except ValueError as error:
        raise BadInput(str(error)) from error
    device = build_device(options.device, world)
    dist.init_process_group(device)
    threads = torch.get_num_threads()
    rows = []
    for name in options.models.split(","):
        one, all_of_them = duel(name, options, device, world, threads)
        rows.append({"model": name, "one": one, "all": all_of_them, "ratio": one / all_of_them})
        if world.is_main:
            told = f"{1e3 * one:.1f} ms alone, {1e3 * all_of_them:.1f} ms together"
            print(f"{name}: {told}, ratio {one / all_of_them:.3f}", file=sys.stderr, flush=True)
    if world.is_main:
        numbers = {"processes": world.size, "batch": options.batch, "rows": rows}
        benchmark_page.publish(page(rows, options, device, world), numbers, device, options.write)
    return 0


def duel(
    name: str, options: argparse.Namespace, device: torch.device, world: World, threads: int
) -> tuple[float, float]:
    """Median seconds of a step of the first process alone, and of one of all together."""
    line = f"--model {name} --dataset synthetic --data.size {max(40, 4 * options.batch)} --bs {options.batch}"
    config = parse([*line.split(), *options.tricks.split()]).config()
    together, alone = (build(config, device, _ignore, processes) for processes in (world, SINGLE))
    seconds: dict[str, list[float]] = {"one": [], "all": []}
    for step in range(WARM + options.steps):
        if world.is_main:
            if device.type == "cpu":
                torch.set_num_threads(threads * world.size)
            seconds["one"].append(timed(alone, step))
            torch.set_num_threads(threads)
        world.gather_objects(None)  # the others wait, and leave the cores to the first
        seconds["all"].append(timed(together, step))
    one, all_of_them = (statistics.median(taken[WARM:] or [0.0]) for taken in seconds.values())
    return one, all_of_them


def timed(run: Run, step: int) -> float:
    begin = time.perf_counter()
    train_step(run, step).item()  # the host waits until it is done
    return time.perf_counter() - begin


def _ignore(note: str) -> None: ...


def page(rows: list[dict], options: argparse.Namespace, device: torch.device, world: World) -> str:
    """The section of docs/benchmarks.md."""
    each = "one thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    alone = f"as many threads as there are processes, which have {each} each"
    command = benchmark_page.command().replace("python", f"torchrun --nproc-per-node {world.size}", 1)
    about = (
        f"Made by `{command}` on "
        f"{benchmark_page.machine(device)}: batches of {options.batch} images in all, fp32, channels-last"
        f"{f', {options.tricks}' if options.tricks else ''}. One process has "
        f"{alone if device.type == 'cpu' else 'one GPU'}; its steps and those of all {world.size} "
        f"take turns, and the medians of {options.steps} are compared. The ratio is the throughput of all "
        "to that of one."
    )
    lines = [
        f"{TITLE}\n\n{textwrap.fill(about, 110)}\n",
        f"| model | one process, ms | {world.size} processes, ms | images/s | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['model']} | {1e3 * row['one']:.1f} | {1e3 * row['all']:.1f} | "
        f"{options.batch / row['all']:.0f} | {row['ratio']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
