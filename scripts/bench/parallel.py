"""`torchrun --nproc-per-node 2 -m scripts.bench.parallel`: steps of all processes compared with those of one.

On a CPU the single process has as many threads as there are processes, so both use the same cores; on GPUs it
has the first GPU. Both take the same global batch, they alternate step by step, and their medians are
compared.
"""

import argparse
import statistics
import sys

import torch

from lib.config.cli import parse
from lib.core import dist
from lib.core.dist import SINGLE, World
from lib.core.errors import BadInput, exit_code
from lib.engine.step import Run, train_step
from lib.factory import build, build_device
from scripts.bench import harness


def main(argv: list[str]) -> int:
    return exit_code(dist.main_process_only(bench), argv)


def bench(argv: list[str]) -> int:
    parser = harness.parser(__doc__, models="resnet20,wrn_16_2,resnet9", batch=128, steps=12, device="auto")
    parser.add_argument("--tricks", default="", help="more flags of train.py, such as '--randaugment --ema'")
    options = parser.parse_args(argv)
    world = dist.world()
    if world.size < 2:
        raise BadInput(f"--nproc-per-node must be at least 2, got {world.size}")
    device = build_device(options.device, world)
    dist.init_process_group(device)
    rows = []
    for name in options.models.split(","):
        one, together = measure(name, options, device, world)
        rows.append({"model": name, "one": one, "all": together, "ratio": one / together})
        if world.is_main:
            times = f"{1e3 * one:.1f} ms alone, {1e3 * together:.1f} ms together"
            harness.progress(f"{name}: {times}, ratio {one / together:.3f}")
    if world.is_main:
        numbers = {"processes": world.size, "batch": options.batch, "rows": rows}
        harness.publish(page(rows, options, device, world), numbers, device, options.write)
    return 0


def measure(name: str, options: argparse.Namespace, device: torch.device, world: World) -> list[float]:
    """Median seconds of a step of the main process alone, 0 in the others, and of all processes together."""
    line = f"--model {name} --dataset synthetic --data.size {max(40, 4 * options.batch)} --bs {options.batch}"
    config = parse([*line.split(), *options.tricks.split()]).config()
    together, alone = (build(config, device, _ignore, processes) for processes in (world, SINGLE))
    threads = torch.get_num_threads()

    def seconds(run: Run, step: int) -> float:
        return harness.timed(lambda: train_step(run, step), device).wall

    def main_process(step: int) -> float:
        taken = 0.0
        if world.is_main:
            if device.type == "cpu":
                torch.set_num_threads(threads * world.size)
            taken = seconds(alone, step)
            torch.set_num_threads(threads)
        world.gather_objects(None)  # the others wait, and leave the cores to the main process
        return taken

    works = [main_process, lambda step: seconds(together, step)]
    return [statistics.median(taken) for taken in harness.in_turns(works, options.steps)]


def _ignore(note: str) -> None: ...


def page(rows: list[dict], options: argparse.Namespace, device: torch.device, world: World) -> str:
    """The section of docs/benchmarks.md."""
    each = "one thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    alone = f"as many threads as there are processes, which have {each} each"
    about = (
        f": global batches of {options.batch} images, fp32, channels-last"
        f"{f', {options.tricks}' if options.tricks else ''}. The single process has "
        f"{alone if device.type == 'cpu' else 'one GPU'}; its steps and those of all {world.size} "
        f"alternate, and the medians of {options.steps} are compared. The ratio is the throughput of all "
        "processes to that of the single one."
    )
    cells = [
        (
            row["model"],
            *(f"{1e3 * row[key]:.1f}" for key in ("one", "all")),
            f"{options.batch / row['all']:.0f}",
            f"{row['ratio']:.2f}",
        )
        for row in rows
    ]
    heads = ["model", "one process, ms", f"{world.size} processes, ms", "images/s", "ratio"]
    return harness.section("## Several processes", about, device, harness.table(heads, cells))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
