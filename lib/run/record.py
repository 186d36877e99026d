"""The record of a run: a row of metrics for each epoch, checkpoints, and the result."""

import math
import time
from functools import cached_property
from typing import Any

import torch

from ..config.schema import Config
from ..core.errors import BadInput
from ..core.rng import DRAWS
from ..data.base import Split, fingerprint
from ..engine.evaluate import Evaluation, evaluate, networks, refresh_statistics
from ..engine.log import Log
from ..engine.metrics import beyond_accuracy
from ..engine.step import Run
from ..store import checkpoint
from ..store.checkpoint import Checkpoint
from ..store.environment import environment
from ..store.run_folder import RESULT_FORMAT, RunFolder, checksum
from .robustness import corruption_error, robustness, robustness_text
from .trackers import Trackers

# Suffixes of the columns that evaluate the weights; all except the loss are in percent.
COLUMNS = ("_accuracy", "_loss", "_top5", "_ece")


class Record:
    """Collects the metrics of a run, and writes them to its folder."""

    def __init__(
        self, run: Run, config: Config, folder: RunFolder, device: torch.device, log: Log, notes: list[str]
    ):
        self.run, self.config, self.folder, self.log = run, config, folder, log
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.newest: dict[str, dict[str, Evaluation]] = {}  # results of the last evaluation, by split
        # Read at the start: the checkout may change during the run.
        self.environment = environment(device) | {"processes": run.world.size, "notes": notes}
        self.code = self.environment["code"]
        # Settings are tuned on the held-out part if there is one, so the best epoch is chosen there.
        self.watched = next(iter(run.splits))
        self.trackers = Trackers(folder.path, log)

    def resume(self) -> int:
        """Continue from the folder's checkpoint, and return the step to start with.

        Raises:
            BadInput: the checkpoint is damaged, or the data or the draws of its run are others now.
        """
        start = self._restore()
        if self.run.world.is_main:
            self.trackers.start(self.config, start)
        return start

    def _restore(self) -> int:
        """The state and the rows of the folder's checkpoint, and its step; 0 where there is none."""
        path, first = self.folder.checkpoint, self.run.world.on_main
        state = first(lambda: self._checked(Checkpoint.read(path)) if path.exists() else None)
        self.folder.write_json("env.json", self.environment)
        if not state:
            return 0
        checkpoint.restore(self.run, state, path)
        rows = state.get("checks", {}).get("rows")
        self.rows, self.best = first(lambda: self.folder.metrics(state["step"], rows)), state["best"]
        self.log(f"resuming {self.folder.path} at step {state['step']} of {self.run.total}")
        if state["code"] != self.code:
            self.log(
                f"note: the checkpoint was written by code {state['code']}, this is {self.code}: where they "
                "differ in what this run does, so does its result from that without the interruption"
            )
        return state["step"]

    def _checked(self, held: Checkpoint) -> dict[str, Any]:
        """The state in a checkpoint, unless the data or the draws of its run are others now."""
        origin = held.checks.get("origin", {})
        differs = held.data.differences(self.run.spec) if held.data else ""
        changed = [differs] if differs else []
        changed += [
            f"{name}: {then} when it was saved, {now} now"
            for name, now in self.origin.items()
            if (then := origin.get(name, now)) != now
        ]
        if changed and not self.config.run.resume_changed:
            raise BadInput(
                f"{held.path} cannot resume exactly ({'; '.join(changed)}); restore what changed, or give "
                "--resume-changed to resume with it"
            )
        for change in changed:
            self.log(f"note: resuming with a change, so the result differs from that without it: {change}")
        return held.state

    @cached_property
    def origin(self) -> dict[str, str]:
        """What the run depends on besides its configuration: the images, and the version of their draws.

        Pixels and files have different fingerprints, so a run that streams from now on compares neither.
        """
        versions = {"torch": torch.__version__.partition("+")[0], "draws": str(DRAWS)}
        return versions | {
            f"{name} {split.identity}": f"{len(split)} images {self.fingerprints[name]}"
            for name, split in self._splits().items()
        }

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        return {name: fingerprint(split) for name, split in self._splits().items()}

    def evaluate(self, epoch: int, last: bool) -> dict[str, float]:
        """Columns of accuracy and loss; after the last epoch also top-5 and calibration error.

        If a part of the training set is held out, the test set is evaluated after the last epoch only.
        """
        began = time.perf_counter()
        names = list(self.run.splits) if last else [self.watched]
        if last:
            self._refresh()
        self.newest = {name: self._evaluations(name, last) for name in names}
        columns: dict[str, float] = {}
        for name, evaluations in self.newest.items():
            for prefix, result in evaluations.items():
                columns |= {f"{prefix}{name}_accuracy": result.accuracy, f"{prefix}{name}_loss": result.loss}
                if last:
                    more = beyond_accuracy(result.logits, result.y)
                    columns |= {f"{prefix}{name}_{key}": value for key, value in more.items()}
        accuracy = columns[f"{self.watched}_accuracy"]
        if self.best is None or accuracy > self.best["accuracy"]:
            self.best = {"epoch": epoch, "accuracy": accuracy, "split": self.watched}
        return columns | {"seconds_evaluate": time.perf_counter() - began}

    def _refresh(self) -> None:
        """Recompute BatchNorm statistics of the averages that need it; the last checkpoint holds them."""
        run = self.run
        for average in run.averages.values():
            if average.needs_statistics:
                refresh_statistics(average.model, run.data.split, run.normalize, run.precision, run.world)

    def _evaluations(self, split: str, last: bool) -> dict[str, Evaluation]:
        """The evaluation of the model by the prefix "", and of each average by its name.

        After the last epoch also their test-time views, and averages whose statistics must be recomputed.
        """
        averages = {
            name: average.model
            for name, average in self.run.averages.items()
            if last or not average.needs_statistics
        }
        models = networks(self.run.model, averages, self.run.views if last else {})
        run = self.run
        how = (run.splits[split], run.normalize, run.precision, run.world)
        return {prefix: evaluate(model, *how) for prefix, model in models.items()}

    def add(self, row: dict[str, Any]) -> None:
        """An epoch's row, to disk and to the console."""
        self.rows.append(row)
        self.folder.write_metrics(self.rows)
        self.trackers.log(row)
        epochs = math.ceil(self.run.epochs)
        accuracies = [
            f"{key.removesuffix('_accuracy').replace('_', ' ')} {value:.2f} %"
            for key, value in row.items()
            if key.endswith("_accuracy")
        ]
        head = [f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}", f"loss {row['train_loss']:.4f}"]
        tail = [
            f"lr {row['lr']:.3g}",
            f"{row['images_per_second']:,.0f} images/s",
            f"{row['seconds_train']:.1f} s",
        ]
        self.log("  ".join([*head, *accuracies, *tail]))

    def _splits(self) -> dict[str, Split]:
        return {"train": self.run.data.split, **self.run.splits}

    def save(self, step: int) -> None:
        path = self.folder.checkpoint
        if self.run.world.is_main:
            config, checks = self.config.tree(), {"origin": self.origin, "rows": checksum(self.rows)}
            checkpoint.save(path, self.run, step, config, self.best, self.code, **checks)

    def predict(self) -> dict[str, float]:
        """Write the predictions of the last epoch, and return the columns that evaluate them."""
        # A run that was resumed after its last epoch has not evaluated in this process.
        evaluations = self.newest.get("test") or self._evaluations("test", last=True)
        arrays = {f"{prefix}logits": evaluation.logits.numpy() for prefix, evaluation in evaluations.items()}
        self.folder.write_predictions(arrays | {"y": self.run.splits["test"].y.cpu().numpy()})
        columns = {key: value for key, value in self.rows[-1].items() if key.endswith(COLUMNS)}
        return columns | (self._corruptions() if self.config.evaluate.corruptions else {})

    def _corruptions(self) -> dict[str, Any]:
        """Results of the model and its averages on corrupted test images."""
        run = self.run
        models = {"last": run.model} | {name: average.model for name, average in run.averages.items()}
        found = robustness(models, run.splits["test"], run.normalize, run.precision, run.world)
        for line in robustness_text(found).splitlines():
            self.log(line)
        columns = {name: "" if name == "last" else f"{name}_" for name in found}
        errors = {f"{columns[name]}test_corruption_error": corruption_error(of) for name, of in found.items()}
        return errors | {"corruptions": found}

    def finish(self, status: str, outcome: dict[str, Any]) -> dict[str, Any]:
        """Draw the curves and write result.json, which is the last file of a run."""

        def total(key: str) -> float:
            return sum(row.get(key, 0.0) for row in self.rows)

        config = self.config
        timed = [key for row in self.rows for key in row if key.startswith("seconds_")]
        parts = ["start", "train", "data", "evaluate", *(key.removeprefix("seconds_") for key in timed)]
        seconds = {part: total(f"seconds_{part}") for part in dict.fromkeys(parts)}
        images = self.rows[-1]["step"] * self.run.images if self.rows else 0
        result = {
            "format": RESULT_FORMAT,
            "status": status,
            "dataset": config.chosen["data"].entry.name,
            "model": config.chosen["model"].entry.name,
            "parameters": sum(p.numel() for p in self.run.params),
            "seed": config.train.seed,
            "config": config.digest(),
            "config_diff": config.changed,
            "epochs": config.train.epochs,
            "steps": self.run.total,
            **outcome,
            "best": self.best,
            # Rows of an older version have no such column.
            "train_flops": total("flops") if all("flops" in row for row in self.rows) else None,
            "data": self.fingerprints,
            "seconds": seconds,
            "images_per_second": images / seconds["train"] if images else None,
            "peak_memory_mb": max((row["peak_memory_mb"] for row in self.rows), default=None),
            "environment": self.environment,
        }
        if self.rows and self.run.world.is_main:
            from ..report.plots.curves import draw_curves  # imported late: matplotlib takes half a second

            title = f"{result['model']} on {result['dataset']}"
            self.folder.write_curves(draw_curves(self.rows, title))
        self.folder.write_json("result.json", result)
        self.trackers.finish(result)
        return result
