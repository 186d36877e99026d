"""`python -m scripts.soup RUN RUN... -o FOLDER`: average the weights of several runs into one model.

Model soups (Wortsman et al. 2022, arXiv:2203.05482): the uniform soup contains all runs, the greedy soup
(recipe 1 there) only those that do not lower its accuracy on held-out images. BatchNorm statistics are
measured again for the mean. The folder contains `last.pt`, which --init-from, --teacher and scripts.predict
accept like that of a run, and `soup.json`, the record of the runs and results.

Averaging helps if the runs are in one basin of the loss, usually because they started from the same trained
weights (--init-from). The mean of runs with random initial weights is usually worse than each of them. A
greedy soup is only unbiased if those initial weights were not trained on the held-out images; this is not
checked.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.config.schema import Config, to_yaml
from lib.core.errors import BadInput, exit_code
from lib.core.files import write_atomic
from lib.engine.evaluate import Evaluation, refresh_statistics
from lib.factory.load import TrainedRun, load
from lib.run.predict import evaluate
from lib.store import checkpoint
from lib.store.checkpoint import Checkpoint
from lib.store.environment import environment

from .arguments import Parser, file_path

FORMAT = 1
Weights = dict[str, Tensor]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    parser = Parser(prog="python -m scripts.soup", description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", nargs="+", type=file_path, help="run folders or checkpoints of one architecture"
    )
    parser.add_argument("-o", "--output", required=True, type=file_path, help="a new folder")
    parser.add_argument("--greedy", action="store_true", help="take only runs that help on held-out images")
    parser.add_argument("--weights", default="last", help="last, or an average of the runs, such as ema")
    parser.add_argument("--root", type=file_path, help="folder of the data sets (that of the first run)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<number> or mps")
    options = parser.parse_args(argv)
    return exit_code(lambda: print(make(options)))


def make(options: argparse.Namespace) -> str:
    """Make the soup and write its folder; returns the text to print."""
    began, folder = time.perf_counter(), options.output
    runs = _read(options.runs, options.weights)
    _check_compatible(runs)
    if options.greedy:
        _check_held_out(runs)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists already; give a new folder with -o")

    first = load(runs[0].path, device=options.device, root=options.root)
    evaluator = Evaluator(first, options.weights, _held_out(runs))
    each = [columns(evaluator.evaluate([run])) for run in runs]
    taken = greedy(runs, [results["val_accuracy"] for results in each], evaluator) if options.greedy else runs
    outcome = columns(evaluator.evaluate(taken))
    record = {
        "format": FORMAT,
        "recipe": "greedy" if options.greedy else "uniform",
        "weights": options.weights,
        "dataset": runs[0].config.chosen["data"].entry.name,
        "model": runs[0].config.chosen["model"].entry.name,
        **outcome,
        "runs": [
            _origin(run) | {"taken": run in taken} | results for run, results in zip(runs, each, strict=True)
        ],
        "seconds": time.perf_counter() - began,
        "environment": environment(first.device),
    }
    write_atomic(folder / "soup.json", json.dumps(record, indent=2) + "\n")
    # Written last, because it is the file that others read.
    checkpoint.write(
        folder / "last.pt",
        evaluator.model.state_dict(),
        step=max(run.step for run in taken),
        total=max(run.step for run in taken),
        config=runs[0].config.tree(),
        code=record["environment"]["code"],
        data=first.data,
    )
    return _report(record, runs, folder)


def _read(paths: Sequence[Path], weights: str) -> list[Checkpoint]:
    """The checkpoints of different runs, all of which have these weights."""
    runs = [Checkpoint.read(path) for path in paths]
    files = [run.path.resolve() for run in runs]
    for run, file in zip(runs, files, strict=True):
        run.weights(weights)
        if files.count(file) > 1:
            raise BadInput(f"{run.path} was given twice")
    if len(runs) < 2:
        raise BadInput(f"a soup is the mean of at least two runs, but only {runs[0].path} was given")
    return runs


def _check_compatible(runs: list[Checkpoint]) -> None:
    """Raise BadInput for runs of different architectures or data sets."""
    for part, ignored in (("model", ()), ("surgery", ()), ("data", ("root", "offline", "fraction", "val"))):
        settings = [_settings(run.config, part, ignored) for run in runs]
        for run, mine in zip(runs, settings, strict=True):
            if mine != settings[0]:
                raise BadInput(
                    f"{run.path} has another {part} than {runs[0].path}: {mine}, and there {settings[0]}; "
                    "only runs of one architecture and data set can be averaged"
                )
    for run in runs:
        if run.data and runs[0].data and (differs := runs[0].data.differences(run.data)):
            raise BadInput(f"{run.path} learned other data than {runs[0].path}: {differs}")


def _settings(config: Config, section: str, ignored: tuple[str, ...]) -> str:
    tree = config.tree()[section]
    return to_yaml({key: value for key, value in tree.items() if key not in ignored}).strip()


def _held_out(runs: list[Checkpoint]) -> bool:
    """Whether all runs held out the same images."""
    return runs[0].config.data.val > 0 and len({run.config.data.val for run in runs}) == 1


def _check_held_out(runs: list[Checkpoint]) -> None:
    if not _held_out(runs):
        fractions = ", ".join(f"{run.config.data.val:g}" for run in runs)
        raise BadInput(
            "a greedy soup selects runs by the accuracy on held-out images, so all runs need the same --val, "
            f"such as 0.1; they have {fractions}. Selecting by the test set would bias the accuracy on it; "
            "leave out --greedy for the mean of all runs"
        )


class Evaluator:
    """Evaluates soups of runs: the network of the first run, with the mean of their weights.

    Args:
        run: the first run, whose images and settings are used.
        weights: last, or the name of an average.
        held_out: whether the images that it held out are unknown to all runs.
    """

    def __init__(self, run: TrainedRun, weights: str, held_out: bool):
        self.run, self.weights, self.model = run, weights, run.models["last"]
        self.names = [name for name in run.images if name != "train" and (held_out or name != "val")]

    def evaluate(self, runs: list[Checkpoint]) -> dict[str, Evaluation]:
        """The evaluation of a soup of these runs on each split; its weights stay in `model`."""
        weights = mean([run.weights(self.weights) for run in runs])
        checkpoint.load_weights(self.model, weights, runs[0].path)
        if len(runs) > 1:  # the statistics of one run fit its weights
            train = self.run.images["train"]
            refresh_statistics(self.model, train.split, train.normalize, self.run.precision)
        return {name: evaluate(self.model, self.run.images[name], self.run.precision) for name in self.names}


def columns(evaluations: dict[str, Evaluation]) -> dict[str, float]:
    """Accuracy and loss on each split, for the record."""
    each = evaluations.items()
    return {f"{n}_accuracy": e.accuracy for n, e in each} | {f"{n}_loss": e.loss for n, e in each}


def mean(states: list[Weights]) -> Weights:
    """The mean of each tensor; counters are those of the first state."""
    return {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for key, first in states[0].items()
    }


def greedy(runs: list[Checkpoint], accuracies: list[float], evaluator: Evaluator) -> list[Checkpoint]:
    """The runs, from the best down, that do not lower the accuracy of the soup on the held-out images."""
    order = sorted(range(len(runs)), key=lambda i: -accuracies[i])
    taken, best = [runs[order[0]]], accuracies[order[0]]
    for i in order[1:]:
        accuracy = evaluator.evaluate([*taken, runs[i]])["val"].accuracy
        if accuracy >= best:
            taken, best = [*taken, runs[i]], accuracy
    return taken


def _origin(run: Checkpoint) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "config": run.config.digest(),
        "seed": run.config.train.seed,
        "init_from": run.config.train.init_from,
        "step": run.step,
    }


def _report(record: dict[str, Any], runs: list[Checkpoint], folder: Path) -> str:
    lines = [
        f"{'taken' if each['taken'] else 'left out':<9} {each['test_accuracy']:6.2f} % test  {each['path']}"
        for each in record["runs"]
    ]
    lines.append(f"{record['recipe']:<9} {record['test_accuracy']:6.2f} % test  {folder}")
    starts = {run.config.train.init_from for run in runs}
    if None in starts or len(starts) > 1:
        lines.append("note: the runs did not start from the same trained weights, so their mean may be poor")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
