"""`python -m scripts.bench.tricks [pattern...]`: step time with each trick over that of the bare step.

The bare step is SGD's, with the augmentations that a data set enables by default. It and the step with the
trick alternate in one process. A round is a short training of two epochs, because some tricks are idle in
many steps; each of its steps has its median over the rounds, and the result is the mean of these medians.
Nothing is compiled.
"""

import argparse
import fnmatch
import statistics
import sys

import torch

from lib.core.errors import BadInput, exit_code
from lib.engine.step import Run, train_step
from lib.factory import build_device
from scripts.bench import harness
from scripts.docs.trials import Settings, config_of, section_of, start, tricks

TITLE = "## Tricks"
EPOCHS = 2  # of a round
BARE: Settings = {
    "data.name": "synthetic", "optim.name": "sgd", "schedule.name": "constant", "train.epochs": EPOCHS,
}  # fmt: skip
# Not timed, with the reason why the step equals the bare one.
UNTIMED = {
    "schedule": "one multiplication of the learning rate per step",
    "init": "drawn before the first step",
}
AGAIN = "the bare step again"  # its ratio shows the noise
# Unlike in a trial, with the values of practice.
PARTS: dict[str, Settings] = {
    "surgery.ghost_batchnorm": {"surgery.ghost_batchnorm.size": 16},
    "select.proxy": {"select.proxy": True},
}
# Settings that apply to every choice, with a value that adds work to the step.
SETTINGS: Settings = {
    "optim.decay_norm_and_bias": False,
    "optim.bias_lr_factor": 2,
    "optim.layer_lr_decay": 0.9,
    "train.accumulate": 2,
    "train.clip": 1,
}

Times = tuple[float, float]  # seconds of the step with the trick, and of the bare one


def main() -> None:
    parser = harness.parser(
        __doc__, models="wrn_16_2,cct_2", batch=32, steps=10, rounds=3, precision="fp32", device="auto"
    )
    parser.add_argument("patterns", nargs="*", help="names or sections: sam, 'cut*', wrap; default all")
    options = parser.parse_args()
    if options.write and options.patterns:
        parser.error("--write needs the whole table; remove the patterns")
    if options.steps % EPOCHS:
        parser.error(f"--steps must be a multiple of {EPOCHS}, got {options.steps}")
    if options.batch * options.steps < 40 * EPOCHS:
        parser.error(f"--batch times --steps must be at least {40 * EPOCHS}, so that every class occurs")

    chosen = select(timed(), options.patterns)
    if not chosen:
        parser.error(f"no timed trick matches {' or '.join(options.patterns)}")
    device, models = build_device(options.device), options.models.split(",")
    torch.set_num_threads(1)  # waiting threads use processor time too
    results = {model: measure_all(chosen, settings_of(model, options), options, device) for model in models}
    harness.publish(page(results, options, device), {"seconds": results}, device, options.write)


def timed() -> dict[str, Settings]:
    """All measured tricks, with the settings that enable them."""
    steps = {
        name: on for name, on in tricks().items() if section_of(name) not in UNTIMED and not in_bare_step(on)
    }
    return steps | PARTS | {name: {name: value} for name, value in SETTINGS.items()}


def in_bare_step(on: Settings) -> bool:
    """Whether the bare step includes this trick."""
    return config_of(BARE | on).digest() == config_of(BARE).digest()


def select(rows: dict[str, Settings], patterns: list[str]) -> dict[str, Settings]:
    """The rows with a section, name or both that match a pattern; all rows without patterns."""
    return {
        row: on
        for row, on in rows.items()
        if not patterns
        or any(fnmatch.fnmatch(part, p) for p in patterns for part in (row, *row.split(".", 1)))
    }


def settings_of(model: str, options: argparse.Namespace) -> Settings:
    """The bare run, with a data set of such a size that a round is two epochs."""
    size = options.batch * options.steps // EPOCHS
    given = {"data.size": size, "train.batch_size": options.batch, "train.precision": options.precision}
    return {"model.name": model, **BARE, **given}


def measure_all(
    rows: dict[str, Settings], bare: Settings, options: argparse.Namespace, device: torch.device
) -> dict[str, Times | None]:
    """The times by trick; None for a trick that the model refuses."""
    base, times = start(bare, device), {}
    for row, on in {AGAIN: {}, **rows}.items():
        try:
            run = start(bare | on, device, teacher=bare["model.name"])
        except BadInput as error:
            times[row] = None
            harness.progress(f"{row}: {error}")
            continue
        times[row] = duel(run, base, options.rounds, device)
        ours, others = times[row]
        harness.progress(f"{bare['model.name']} {row}: {ours * 1e3:.1f} ms, {ours / others:.3f}")
    return times


def duel(run: Run, base: Run, rounds: int, device: torch.device) -> Times:
    """Seconds of a mean step of each; the two alternate."""
    total = base.total
    works = [lambda n, run=run: timed_step(run, n % total, device) for run in (run, base)]
    # The first run of a pair changes, so that neither always finds the caches as the other left them. The
    # first round allocates memory and chooses kernels.
    seconds = harness.in_turns(
        works, rounds * total, warm_up=total, is_reversed=lambda n: (n // total + n % total) % 2 == 1
    )
    ours, bare = (
        statistics.mean(statistics.median(each[step::total]) for step in range(total)) for each in seconds
    )
    return ours, bare


def timed_step(run: Run, step: int, device: torch.device) -> float:
    """Seconds; processor time on a CPU, which other programs do not lengthen."""
    took = harness.timed(lambda: train_step(run, step), device)
    return took.processor if device.type == "cpu" else took.wall


def page(
    results: dict[str, dict[str, Times | None]], options: argparse.Namespace, device: torch.device
) -> str:
    """The section of docs/benchmarks.md."""
    bare = {
        model: statistics.median(pair[1] for pair in times.values() if pair)
        for model, times in results.items()
    }
    about = (
        f". Batches of {options.batch} images of 32x32x3, {options.precision}, channels-last, not compiled"
        f"{', processor time of one thread' if device.type == 'cpu' else ''}. The bare step, with SGD and "
        "the augmentations that a data set like CIFAR enables by default, takes "
        f"{' and '.join(f'{1e3 * seconds:.1f} ms on {model}' for model, seconds in bare.items())}. Steps "
        "with a trick and bare steps alternate; the ratio is between these, and its first row is the noise. "
        f"Medians of {options.rounds} rounds, each a training of {options.steps} steps in {EPOCHS} epochs."
    )
    heads = ["trick", *(head for model in results for head in (f"{model}, ms", "ratio"))]
    rows = [
        [f"`{row}`", *(cell for times in results.values() for cell in _cells(times[row]))]
        for row in next(iter(results.values()))
    ]
    return harness.section(TITLE, about, device, harness.table(heads, rows))


def _cells(times: Times | None) -> tuple[str, str]:
    return (f"{times[0] * 1e3:.1f}", f"{times[0] / times[1]:.2f}") if times else ("-", "refused")


def written() -> dict[str, dict[str, str]]:
    """The ratios in docs/benchmarks.md, by trick and model; empty without such a table."""
    lines = harness.read_section(TITLE).split("\n")
    rows = [line.strip("| ").split(" | ") for line in lines if "|" in line]
    if not rows:
        return {}
    models = [cell.removesuffix(", ms") for cell in rows[0][1::2]]
    return {row[0].strip("`"): dict(zip(models, row[2::2], strict=True)) for row in rows[2:]}


if __name__ == "__main__":
    sys.exit(exit_code(main))
