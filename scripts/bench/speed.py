"""`python -m scripts.bench.speed`: time and accuracy of a fast recipe and of the plain script of airbench94.

Both train on the same images on the same device. On a CPU they alternate step by step; on a GPU, which needs
a queue that is never empty, they alternate training by training, and the first training of each is a warm-up.
The start (reading, first weights, compilation) is separate from the time to the accuracy on the test images,
which is measured with the recipe's test-time views. Processor time is the better measure on a shared machine.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator

import torch

from lib.config.cli import parse
from lib.config.schema import Config
from lib.core.errors import BadInput, exit_code
from lib.engine.evaluate import evaluate, networks
from lib.engine.step import train_step
from lib.factory import build, build_dataset, build_device, compile_networks
from lib.factory.data import build_splits
from scripts.bench import harness, plain_airbench

PLAIN = {"epochs": 8.0, "batch": 2000}  # the defaults of the plain script
TIMES = {
    "start": "start, s",
    "seconds": "seconds",
    "cpu_seconds": "processor seconds",
    "step_ms": "step, ms",
}
HEADS = TIMES | {"steps": "steps", "loss": "last loss", "accuracy": "accuracy, %"}
COLUMNS = dict.fromkeys(TIMES, "{:.2f}") | {"steps": "{}", "loss": "{:.4f}", "accuracy": "{:.2f}"}


def main() -> None:
    parser = harness.parser(__doc__, device="auto")
    parser.add_argument("--recipe", default="configs/speed/94.yaml", help="a YAML file of settings")
    parser.add_argument("--runs", type=int, default=1, help="runs of each, with seeds from 0")
    parser.add_argument("--epochs", type=float, help="of both; default that of each")
    parser.add_argument("--batch", type=int, help="images per batch of both; default that of each")
    parser.add_argument("--test", type=int, help="number of test images; default all")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("settings", nargs="*", help="more settings of the recipe, such as data.fraction=0.1")
    options = parser.parse_args()

    device = build_device(options.device)
    found: dict[str, list[dict]] = {"ours": [], "plain": []}
    warm_up = [0] if device.type == "cuda" else []
    for number, seed in enumerate([*warm_up, *range(options.runs)]):
        config = _config(options, seed)
        epochs, batch = options.epochs or PLAIN["epochs"], options.batch or PLAIN["batch"]
        works = {
            "ours": ours(config, device, options.test),
            "plain": plain(config, device, epochs, batch, options.test),
        }
        for kind, outcome in by_turns(works, device).items():
            if number < len(warm_up):
                continue
            found[kind].append({"seed": seed, **outcome})
            harness.progress(f"seed {seed}, {kind}: {', '.join(cells(outcome))}")
    means = {
        kind: {key: statistics.fmean(run[key] for run in runs) for key in COLUMNS}
        for kind, runs in found.items()
    }
    ratios = {key: means["ours"][key] / means["plain"][key] for key in TIMES}
    numbers = {"settings": config.changed, "ratios": ratios, "means": means, "runs": found}
    harness.publish(page(found, ratios, options, device), numbers, device, options.write)


def cells(outcome: dict) -> list[str]:
    return [form.format(outcome[key]) for key, form in COLUMNS.items()]


def page(found: dict[str, list[dict]], ratios: dict[str, float], options: argparse.Namespace, device) -> str:
    """The section of docs/benchmarks.md."""
    short = " The recipe is shortened." if options.epochs or options.settings else ""
    about = (
        f", {options.precision}. {options.recipe} and a plain script of airbench94 with Muon on the same "
        f"images, alternating {'step by step' if device.type == 'cpu' else 'training by training'}: the "
        "start (reading, first weights, compilation), wall and processor time from there to the accuracy "
        f"with the recipe's test-time views, and the time of a step.{short} The ratios are of the means."
    )
    heads = ["run", "seed", *HEADS.values()]
    rows = [[kind, run["seed"], *cells(run)] for kind, runs in found.items() for run in runs]
    rows.append(["ratio", "", *(f"{ratios[key]:.3f}" for key in TIMES), "", "", ""])
    return harness.section("## A fast recipe, end to end", about, device, harness.table(heads, rows))


def _config(options: argparse.Namespace, seed: int) -> Config:
    line = [f"--config={options.recipe}", f"--seed={seed}", f"--precision={options.precision}"]
    line += [f"--epochs={options.epochs}"] if options.epochs else []
    line += [f"--batch-size={options.batch}"] if options.batch else []
    return parse([*line, *options.settings]).config()


# A training in parts. It yields None after the start, the loss (a tensor) after each step, and the accuracy
# (a number) at the end.
Work = Iterator[torch.Tensor | float | None]


def ours(config: Config, device: torch.device, test: int | None) -> Work:
    run = build(config, device, note=harness.progress)
    compile_networks(run, config.train, note=harness.progress)
    yield None
    for step in range(run.total):
        yield train_step(run, step)
    network = list(networks(run.model, {}, run.views).values())[-1]  # a view, if there is one
    yield evaluate(network, run.splits["test"].take(slice(test)), run.normalize, run.precision).accuracy


def plain(config: Config, device: torch.device, epochs: float, batch: int, test: int | None) -> Work:
    dataset = build_dataset(config)
    part, splits = build_splits(config, dataset)
    x, y = part.x.to(device), part.y.to(device)
    if x.shape[1:] != (3, 32, 32) or len(dataset.classes) != 10 or batch > len(x):
        raise BadInput(
            f"the plain script needs images of 3x32x32 in 10 classes, at least a batch of {batch}, but got "
            f"{len(x)} of {tuple(x.shape[1:])} in {len(dataset.classes)}"
        )
    bf16, nets = config.train.precision == "bf16", []
    yield None
    for net, loss in plain_airbench.train(x, y, epochs, batch, config.train.seed, bf16):
        nets = [net]
        yield loss
    shown = splits["test"].take(slice(test)).to(device)
    yield plain_airbench.accuracy(*nets, shown.x, shown.y, bf16)


def by_turns(works: dict[str, Work], device: torch.device) -> dict[str, dict]:
    """The times, steps, last loss and accuracy of each."""
    outcomes = {kind: {"start": 0.0, "seconds": 0.0, "cpu_seconds": 0.0, "steps": []} for kind in works}
    left = list(works)
    while left:
        for kind in list(left):
            more = part(works[kind], outcomes[kind], device)
            while more and device.type != "cpu":
                more = part(works[kind], outcomes[kind], device)
            if not more:
                left.remove(kind)
    for outcome in outcomes.values():
        steps = outcome["steps"]
        seconds = statistics.median(steps) if device.type == "cpu" else outcome["seconds"] / len(steps)
        outcome |= {"steps": len(steps), "step_ms": 1e3 * seconds, "loss": float(outcome["loss"])}
    return outcomes


def part(work: Work, outcome: dict, device: torch.device) -> bool:
    """Do one part of the work and return whether there are more."""

    def advance() -> torch.Tensor | float | None:
        value = next(work)
        if value is None and device.type == "cuda":
            torch.cuda.synchronize(device)
        return value

    value, seconds, processor = harness.timed(advance)
    if value is None:
        outcome["start"] = seconds
        return True
    outcome["seconds"] += seconds
    outcome["cpu_seconds"] += processor
    if isinstance(value, float):
        outcome["accuracy"] = value
        return False
    outcome["steps"].append(processor)  # on a GPU this is queueing; its time is measured at the end
    outcome["loss"] = value
    return True


if __name__ == "__main__":
    sys.exit(exit_code(main))
