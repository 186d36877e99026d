"""`python -m scripts.bench.tricks [pattern...]`: a step with each trick over the bare step.

The bare step is SGD's, with the augmentations that the data set has on by itself. Step by step, it and the
step with the trick take turns in one process, so that whatever else the machine does hits both. A round is a
whole small training of two epochs, for some tricks do nothing in many steps: the median over the rounds is
taken of each of its steps, and then their mean. `--write` puts the table in docs/benchmarks.md. Whatever is
compared is not compiled.
"""

import argparse
import fnmatch
import statistics
import sys
import textwrap
import time

import torch

from lib.core.errors import BadInput
from lib.engine.step import Run, train_step
from lib.factory import build_device
from scripts.bench import page as benchmark_page
from scripts.trials import Settings, config_of, section_of, start, tricks

TITLE = "## Tricks"
EPOCHS = 2  # of a round
BARE: Settings = {
    "data.name": "synthetic", "optim.name": "sgd", "schedule.name": "constant", "train.epochs": EPOCHS,
}  # fmt: skip
# What is not timed, and why its step is the bare one.
UNTIMED = {"schedule": "one multiplication of the rate a step", "init": "drawn before the first step"}
AGAIN = "the bare step again"  # the row that shows how much is chance
# Other than in a trial: as they are in use.
PARTS: dict[str, Settings] = {
    "surgery.ghost_batchnorm": {"surgery.ghost_batchnorm.size": 16},
    "select.proxy": {"select.proxy": True},
}
# Settings that hold whatever is chosen, at a value that makes the step do something for them.
SETTINGS: Settings = {
    "optim.decay_norm_and_bias": False,
    "optim.bias_lr_factor": 2,
    "optim.layer_lr_decay": 0.9,
    "train.accumulate": 2,
    "train.clip": 1,
}

Times = tuple[float, float]  # seconds of the step with the trick, and of the bare one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", help="of names or sections: sam, 'cut*', wrap; default all")
    parser.add_argument("--models", default="wrn_16_2,cct_2", help="names, with commas between")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument("--steps", type=int, default=10, help="steps of a round, even")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds; one more warms up")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true", help="put the table in docs/benchmarks.md")
    options = parser.parse_args()
    if options.write and options.patterns:
        parser.error("--write puts the whole table in docs/benchmarks.md; leave the patterns out")
    if options.steps < EPOCHS or options.steps % EPOCHS or options.rounds < 1:
        parser.error(f"--steps must be a multiple of {EPOCHS} and --rounds at least 1")
    if options.batch * options.steps < 40 * EPOCHS:
        parser.error(f"--batch times --steps must be at least {40 * EPOCHS}, so that every class is there")

    chosen = select(timed(), options.patterns)
    if not chosen:
        parser.error(f"no timed trick is called {' or '.join(options.patterns)}")
    device, models = build_device(options.device), options.models.split(",")
    torch.set_num_threads(1)  # waiting threads would count as working ones
    results = {model: measure_all(chosen, settings_of(model, options), options, device) for model in models}
    benchmark_page.publish(page(results, options, device), {"seconds": results}, device, options.write)


def timed() -> dict[str, Settings]:
    """All that is measured, with the setting that switches it on."""
    steps = {
        name: on for name, on in tricks().items() if section_of(name) not in UNTIMED and not in_bare_step(on)
    }
    return steps | PARTS | {name: {name: value} for name, value in SETTINGS.items()}


def in_bare_step(on: Settings) -> bool:
    """Whether this is what the bare step does anyway."""
    return config_of(BARE | on).digest() == config_of(BARE).digest()


def select(rows: dict[str, Settings], patterns: list[str]) -> dict[str, Settings]:
    """The rows of which a section, a name or both match a pattern; all if there is none."""
    return {
        row: on
        for row, on in rows.items()
        if not patterns
        or any(fnmatch.fnmatch(part, p) for p in patterns for part in (row, *row.split(".", 1)))
    }


def settings_of(model: str, options: argparse.Namespace) -> Settings:
    """The bare run: so many images that a round is its two epochs."""
    size = options.batch * options.steps // EPOCHS
    given = {"data.size": size, "train.batch_size": options.batch, "train.precision": options.precision}
    return {"model.name": model, **BARE, **given}


def measure_all(
    rows: dict[str, Settings], bare: Settings, options: argparse.Namespace, device: torch.device
) -> dict[str, Times | None]:
    """The times by trick; None where the model refuses it."""
    base, times = start(bare, device), {}
    for row, on in {AGAIN: {}, **rows}.items():
        try:
            run = start(bare | on, device, teacher=bare["model.name"])
        except BadInput as error:
            times[row] = None
            print(f"{row}: {error}", file=sys.stderr, flush=True)
            continue
        times[row] = duel(run, base, options.rounds, device)
        told = f"{times[row][0] * 1e3:.1f} ms, {times[row][0] / times[row][1]:.3f}"
        print(f"{bare['model.name']} {row}: {told}", file=sys.stderr, flush=True)
    return times


def duel(run: Run, base: Run, rounds: int, device: torch.device) -> Times:
    """Seconds of a mean step of each, by turns."""
    seconds: list[list[list[float]]] = [[[] for _ in range(base.total)] for _ in range(2)]
    for number in range(rounds + 1):
        for step in range(base.total):
            # Who is first changes, lest one always finds the caches as the other leaves them.
            for which in (0, 1) if (number + step) % 2 else (1, 0):
                took = timed_step((run, base)[which], step, device)
                if number > 0:  # the first round allocates memory and chooses kernels
                    seconds[which][step].append(took)
    ours, bare = (statistics.mean(map(statistics.median, each)) for each in seconds)
    return ours, bare


def timed_step(run: Run, step: int, device: torch.device) -> float:
    """Seconds; on a CPU those of the processor, which no other program lengthens."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begin = clock()
    train_step(run, step)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begin


def page(
    results: dict[str, dict[str, Times | None]], options: argparse.Namespace, device: torch.device
) -> str:
    """The section of docs/benchmarks.md."""
    bare = {
        model: statistics.median(pair[1] for pair in times.values() if pair)
        for model, times in results.items()
    }
    machine = benchmark_page.machine(device)
    about = (
        f"Made by `{benchmark_page.command()}` on {machine}. Batches of "
        f"{options.batch} images of 32x32x3, {options.precision}, channels-last, not compiled"
        f"{', processor time of one thread' if device.type == 'cpu' else ''}. The bare "
        "step, with SGD and the augmentations that a data set like CIFAR has on by itself, takes "
        f"{' and '.join(f'{1e3 * seconds:.1f} ms on {model}' for model, seconds in bare.items())}. Every "
        "step with a trick is taken beside a bare one, and the ratio is to those; its first row shows how "
        f"much of it is chance. Medians of {options.rounds} rounds, each a training of {options.steps} steps "
        f"in {EPOCHS} epochs."
    )
    lines = [
        f"{TITLE}\n\n{textwrap.fill(about, 110)}\n",
        f"| trick | {' | '.join(f'{model}, ms | ratio' for model in results)} |",
        f"|---|{'---:|---:|' * len(results)}",
    ]
    for row in next(iter(results.values())):
        cells = [_cells(times[row]) for times in results.values()]
        lines.append(f"| `{row}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(times: Times | None) -> str:
    return f"{times[0] * 1e3:.1f} | {times[0] / times[1]:.2f}" if times else "- | refused"


def written() -> dict[str, dict[str, str]]:
    """The ratios of docs/benchmarks.md, by trick and model; none where it has no such table."""
    rows = [
        line.strip("| ").split(" | ") for line in benchmark_page.section(TITLE).split("\n") if "|" in line
    ]
    if not rows:
        return {}
    models = [cell.removesuffix(", ms") for cell in rows[0][1::2]]
    return {row[0].strip("`"): dict(zip(models, row[2::2], strict=True)) for row in rows[2:]}


if __name__ == "__main__":
    main()
