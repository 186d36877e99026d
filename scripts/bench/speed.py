"""`python -m scripts.bench.speed`: a fast recipe beside the plain script of airbench94, by time and accuracy.

Both train on the same images on the same device. On a CPU they take their steps in turns, so that whatever
else the machine does hits both; on a GPU a turn is a whole training, whose queue must never run empty, and
the first of each, which loads what is needed, does not count. Apart stands the start: reading, first weights,
compilation. Then come the seconds to the accuracy on the test images by the recipe's views, and beside them
the processor's own: on a machine shared with others these are what tells. `--write` puts the table in
docs/benchmarks.md.
"""

import argparse
import statistics
import sys
import textwrap
import time
from collections.abc import Iterator

import torch

from lib.config.cli import parse
from lib.config.schema import Config
from lib.core.errors import BadInput, exit_code
from lib.engine.evaluate import evaluate, networks
from lib.engine.step import train_step
from lib.factory import build, build_dataset, build_device
from lib.factory.data import build_splits
from scripts.bench import page as benchmark_page
from scripts.bench import plain_airbench

PLAIN = {"epochs": 8.0, "batch": 2000}  # the plain script's own
TIMES = {
    "start": "start, s",
    "seconds": "seconds",
    "cpu_seconds": "processor's seconds",
    "step_ms": "a step, ms",
}
HEADS = TIMES | {"steps": "steps", "loss": "last loss", "accuracy": "accuracy, %"}
COLUMNS = dict.fromkeys(TIMES, "{:.2f}") | {"steps": "{}", "loss": "{:.4f}", "accuracy": "{:.2f}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="configs/speed/94.yaml", help="a YAML file of settings")
    parser.add_argument("--runs", type=int, default=1, help="runs of each, with seeds from 0")
    parser.add_argument("--epochs", type=float, help="of both, instead of their own")
    parser.add_argument("--batch", type=int, help="images a step of both, instead of their own")
    parser.add_argument("--test", type=int, help="evaluate on so many of the test images only")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true", help="put the table in docs/benchmarks.md")
    parser.add_argument("settings", nargs="*", help="more of the recipe's settings, as data.fraction=0.1")
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
            print(f"seed {seed}, {kind}: {', '.join(cells(outcome))}", file=sys.stderr, flush=True)
    means = {
        kind: {key: statistics.fmean(run[key] for run in runs) for key in COLUMNS}
        for kind, runs in found.items()
    }
    ratios = {key: means["ours"][key] / means["plain"][key] for key in TIMES}
    numbers = {"settings": config.changed, "ratios": ratios, "means": means, "runs": found}
    benchmark_page.publish(page(found, ratios, options, device), numbers, device, options.write)


def cells(outcome: dict) -> list[str]:
    return [form.format(outcome[key]) for key, form in COLUMNS.items()]


def page(found: dict[str, list[dict]], ratios: dict[str, float], options: argparse.Namespace, device) -> str:
    """The section of docs/benchmarks.md."""
    short = " Not the whole of the recipe: its budget was cut." if options.epochs or options.settings else ""
    about = (
        f"Made by `{benchmark_page.command()}` on {benchmark_page.machine(device)}, {options.precision}. "
        f"{options.recipe} beside a plain script of airbench94 with Muon on the same images, "
        f"{'step by step' if device.type == 'cpu' else 'training by training'} in turns: the start (reading, "
        "first weights, compilation), the seconds from there to the accuracy by the recipe's test-time "
        f"views, the processor's own, and a step.{short} The ratios are of the means."
    )
    heads = ["what", "seed", *HEADS.values()]
    rows = [[kind, run["seed"], *cells(run)] for kind, runs in found.items() for run in runs]
    rows.append(["ratio", "", *(f"{ratios[key]:.3f}" for key in TIMES), "", "", ""])
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return f"## A fast recipe, end to end\n\n{textwrap.fill(about, 110)}\n\n{table}\n"


def _config(options: argparse.Namespace, seed: int) -> Config:
    line = [f"--config={options.recipe}", f"--seed={seed}", f"--precision={options.precision}"]
    line += [f"--epochs={options.epochs}"] if options.epochs else []
    line += [f"--batch-size={options.batch}"] if options.batch else []
    return parse([*line, *options.settings]).config()


# What is timed: it yields after each part of the work, the loss of a step as a tensor, and in the end the
# accuracy as a number.
Work = Iterator[torch.Tensor | float | None]


def ours(config: Config, device: torch.device, test: int | None) -> Work:
    run = build(config, device, note=lambda line: print(line, file=sys.stderr))
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
            f"the plain script takes images of 3x32x32 in 10 classes, at least a batch of {batch}, and not "
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
    """What each took and came to."""
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
    """Do one part of the work; whether there is more of it."""
    start, own = time.perf_counter(), time.process_time()
    told = next(work)
    if told is None and device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds, own = time.perf_counter() - start, time.process_time() - own
    if told is None:
        outcome["start"] = seconds
        return True
    outcome["seconds"] += seconds
    outcome["cpu_seconds"] += own
    if isinstance(told, float):
        outcome["accuracy"] = told
        return False
    outcome["steps"].append(own)  # of a GPU that is queueing, and its time is counted in the end
    outcome["loss"] = told
    return True


if __name__ == "__main__":
    sys.exit(exit_code(main))
