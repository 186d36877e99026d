"""`python -m scripts.soup RUN RUN... -o FOLDER`: one model whose weights are the mean of several runs'.

Wortsman et al. 2022, arXiv:2203.05482: the uniform soup takes all runs, the greedy one (recipe 1 there) only
those that do not lower its accuracy on held-out images. BatchNorm's statistics are measured anew for the
mean. The folder gets `last.pt`, which --init-from and --teacher read as they read a run's, and `soup.json`,
the record of what went in.

The mean of weights is of use where the runs lie in one basin of the loss: as a rule because they started from
the same trained weights (--init-from). Of runs that started at random it is usually worse than each of them.
For an honest greedy soup these weights must not have learned the held-out images either: nothing checks that.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.config.schema import Config, to_yaml
from lib.core.errors import BadInput, exit_code
from lib.core.files import write_atomic
from lib.engine.evaluate import Evaluation, evaluate, refresh_statistics
from lib.factory import build_dataset, build_device, build_model, build_normalize, build_splits
from lib.store import checkpoint
from lib.store.environment import environment
from lib.store.saved_run import Saved, saved

FORMAT = 1
Weights = dict[str, Tensor]


def main(argv: Sequence[str] | None = None) -> int:
    """Make one soup; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.soup", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders or checkpoints of one architecture")
    parser.add_argument("-o", "--output", required=True, type=Path, help="a new folder")
    parser.add_argument("--greedy", action="store_true", help="take only what helps on held-out images")
    parser.add_argument("--weights", default="last", help="last, or an average of the runs, such as ema")
    parser.add_argument("--root", help="where the data lie; else where the first run had them")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<number> or mps")
    options = parser.parse_args(argv)
    return exit_code(lambda: print(make(options)))


def make(options: argparse.Namespace) -> str:
    """Make the soup, write its folder, and tell how it came out."""
    began, folder = time.perf_counter(), options.output
    runs = _read(options.runs, options.weights)
    _check_alike(runs)
    if options.greedy:
        _check_held_out(runs)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is there already; give a new folder with -o")

    device = build_device(options.device)
    tasting = Tasting(runs, options.root, device)
    alone = [tasting.columns(tasting.evaluate(run.weights, run.path)) for run in runs]
    taken = greedy(runs, [columns["val_accuracy"] for columns in alone], tasting) if options.greedy else runs
    outcome = tasting.columns(tasting.soup(taken))
    record = {
        "format": FORMAT,
        "recipe": "greedy" if options.greedy else "uniform",
        "weights": options.weights,
        "dataset": runs[0].config.chosen["data"].entry.name,
        "model": runs[0].config.chosen["model"].entry.name,
        **outcome,
        "runs": [
            _origin(run) | {"taken": run in taken} | columns for run, columns in zip(runs, alone, strict=True)
        ],
        "seconds": time.perf_counter() - began,
        "environment": environment(device),
    }
    write_atomic(folder / "soup.json", json.dumps(record, indent=2) + "\n")
    # The last file, as it is the one that others read.
    config, step = runs[0].config.tree(), max(run.step for run in taken)
    checkpoint.write(
        folder / "last.pt", tasting.model.state_dict(), step, config, record["environment"]["code"]
    )
    return _report(record, runs, folder)


def _read(paths: Sequence[str], weights: str) -> list[Saved]:
    """The runs, each once."""
    runs = [saved(path, weights) for path in paths]
    places = [run.path.resolve() for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise BadInput(f"{run.path} is given twice; every run goes in once")
    if len(runs) < 2:
        raise BadInput(f"a soup is the mean of two runs or more, but {runs[0].path} is alone")
    return runs


def _check_alike(runs: list[Saved]) -> None:
    """Refuse runs whose weights have no mean: of another architecture, or trained on other data."""
    for part, ignored in (("model", ()), ("surgery", ()), ("data", ("root", "offline", "fraction", "val"))):
        settings = [_settings(run.config, part, ignored) for run in runs]
        for run, mine in zip(runs, settings, strict=True):
            if mine != settings[0]:
                raise BadInput(
                    f"{run.path} has another {part} than {runs[0].path}: {mine}, and there {settings[0]}; "
                    "only weights of one architecture that have learned the same data have a mean"
                )


def _settings(config: Config, section: str, ignored: tuple[str, ...]) -> str:
    tree = config.tree()[section]
    return to_yaml({key: value for key, value in tree.items() if key not in ignored}).strip()


def _held_out(runs: list[Saved]) -> bool:
    """Whether all runs have held out the same images."""
    return runs[0].config.data.val > 0 and len({run.config.data.val for run in runs}) == 1


def _check_held_out(runs: list[Saved]) -> None:
    if not _held_out(runs):
        shares = ", ".join(f"{run.config.data.val:g}" for run in runs)
        raise BadInput(
            "a greedy soup chooses by the accuracy on images that no run has learned, so all runs need the "
            f"same --val, as 0.1; they have {shares}. To choose by the test set would flatter the accuracy "
            "on it; leave --greedy out for the mean of all"
        )


class Tasting:
    """One network that takes the weights of every run and soup in turn, and the images to judge them by."""

    def __init__(self, runs: list[Saved], root: str | None, device: torch.device):
        config = runs[0].config
        if root:
            config = replace(config, settings=config.settings | {"data": replace(config.data, root=root)})
        dataset = build_dataset(config)
        train, splits = build_splits(config, dataset)
        if not _held_out(runs):
            splits.pop("val", None)  # another run may have learned these images
        self.train, self.splits = train.to(device), {name: split.to(device) for name, split in splits.items()}
        self.normalize = build_normalize(config, dataset, device).pixels
        self.precision = config.train.precision
        self.model = build_model(config, train.shape, len(dataset.classes)).to(device)

    def evaluate(self, weights: Weights, path: Path) -> dict[str, Evaluation]:
        checkpoint.load_weights(self.model, weights, path)
        return self._evaluations()

    def soup(self, runs: list[Saved]) -> dict[str, Evaluation]:
        """Leaves the mean of these runs in the network, with statistics of its own."""
        checkpoint.load_weights(self.model, mean([run.weights for run in runs]), runs[0].path)
        if len(runs) > 1:
            refresh_statistics(self.model, self.train, self.normalize, self.precision)
        return self._evaluations()

    def _evaluations(self) -> dict[str, Evaluation]:
        return {
            name: evaluate(self.model, split, self.normalize, self.precision)
            for name, split in self.splits.items()
        }

    @staticmethod
    def columns(evaluations: dict[str, Evaluation]) -> dict[str, float]:
        each = evaluations.items()
        return {f"{n}_accuracy": e.accuracy for n, e in each} | {f"{n}_loss": e.loss for n, e in each}


def mean(states: list[Weights]) -> Weights:
    """The plain mean of each tensor; counters are the first one's."""
    return {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for key, first in states[0].items()
    }


def greedy(runs: list[Saved], accuracies: list[float], tasting: Tasting) -> list[Saved]:
    """From the best run down, each that does not lower the accuracy of the soup on the held-out images."""
    order = sorted(range(len(runs)), key=lambda i: -accuracies[i])
    taken, best = [runs[order[0]]], accuracies[order[0]]
    for i in order[1:]:
        accuracy = tasting.soup([*taken, runs[i]])["val"].accuracy
        if accuracy >= best:
            taken, best = [*taken, runs[i]], accuracy
    return taken


def _origin(run: Saved) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "config": run.config.digest(),
        "seed": run.config.train.seed,
        "init_from": run.config.train.init_from,
        "step": run.step,
    }


def _report(record: dict[str, Any], runs: list[Saved], folder: Path) -> str:
    lines = [
        f"{'taken' if each['taken'] else 'left out':<9} {each['test_accuracy']:6.2f} % test  {each['path']}"
        for each in record["runs"]
    ]
    lines.append(f"{record['recipe']:<9} {record['test_accuracy']:6.2f} % test  {folder}")
    starts = {run.config.train.init_from for run in runs}
    if None in starts or len(starts) > 1:
        lines.append("note: not all started from the same trained weights, so their mean may be of no use")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
