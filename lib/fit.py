"""The loop over steps: when to evaluate, to save and to log; resume; and the record at the end."""

import math
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lib import checkpoint
from lib.config import Config
from lib.evaluate import Evaluation, evaluate
from lib.log import Log, Scalars
from lib.record import RESULT_FORMAT, RunFolder, environment
from lib.report.curves import draw_curves
from lib.step import Run, train_step

# Losses are read off the device in bunches: soon enough to stop a diverged run, too rarely to slow a GPU.
LOSSES_AT_ONCE = 50


class Diverged(Exception):
    """The loss is no number any more."""

    def __init__(self, step: int, lr: float, loss: float):
        super().__init__(f"loss {loss} at step {step} with learning rate {lr:.6g}")
        self.step, self.lr, self.loss = step, lr, loss


def fit(run: Run, config: Config, folder: RunFolder, device: torch.device, log: Log) -> dict[str, Any]:
    """Train to the end of the budget, from the folder's checkpoint if there is one.

    Returns:
        What `result.json` holds.
    """
    record = Record(run, config, folder, device, log)
    start = record.resume()
    scalars = Scalars(folder.path, config.run.tensorboard, start)
    per_epoch, total = run.data.steps_per_epoch, run.total
    losses: list[tuple[int, float, Tensor]] = []
    read: list[float] = []
    began = time.perf_counter()
    try:
        for step in tqdm(
            range(start, total), initial=start, total=total, unit="step", disable=None, leave=False
        ):
            loss = train_step(run, step)
            losses.append((step, run.optimizer.param_groups[0]["lr"], loss))
            ends = (step + 1) % per_epoch == 0 or step + 1 == total
            if ends or len(losses) == LOSSES_AT_ONCE:
                read += _read(losses)
            if not ends:
                continue
            if not _finite(run):  # the loss was, before the last step; no such weights over a good checkpoint
                raise Diverged(step, run.optimizer.param_groups[0]["lr"], math.nan)
            epoch = math.ceil((step + 1) / per_epoch)
            row = {"epoch": epoch, "step": step + 1, "lr": run.optimizer.param_groups[0]["lr"]}
            row["train_loss"] = sum(read) / len(read)
            row |= _timing(run, device, len(read), time.perf_counter() - began)
            read.clear()
            if epoch % config.run.evaluate_every == 0 or step + 1 == total:
                row |= record.evaluate(last=step + 1 == total, epoch=epoch)
            record.add(row)
            scalars(row)
            if epoch % config.run.save_every == 0 or step + 1 == total:
                record.save(step + 1)
            began = time.perf_counter()
    except Diverged as error:
        return record.diverged(error)
    return record.finish()


def _read(losses: list[tuple[int, float, Tensor]]) -> list[float]:
    """The losses as numbers; empties the list. This is where the host waits for the device."""
    values = torch.stack([loss for *_, loss in losses]).tolist()
    for (step, lr, _), value in zip(losses, values, strict=True):
        if not math.isfinite(value):
            raise Diverged(step, lr, value)
    losses.clear()
    return values


def _finite(run: Run) -> bool:
    """Whether weights and statistics are numbers."""
    real = [t for t in run.model.state_dict().values() if t.is_floating_point()]
    return bool(torch.stack([t.isfinite().all() for t in real]).all())


def _timing(run: Run, device: torch.device, steps: int, seconds: float) -> dict[str, float]:
    on_gpu = device.type == "cuda"
    # ru_maxrss counts KiB on Linux.
    peak = (
        torch.cuda.max_memory_allocated(device)
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {
        "seconds_train": seconds,
        "seconds_data": run.clock.read().get("data", 0.0),
        "images_per_second": steps * run.data.batch_size / seconds,
        "peak_memory_mb": peak / 2**20,
    }


class Record:
    """What is known of a run so far, and its way to disk."""

    def __init__(self, run: Run, config: Config, folder: RunFolder, device: torch.device, log: Log):
        self.run, self.config, self.folder, self.device, self.log = run, config, folder, device, log
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        # Taken at the start: the checkout may change while the run goes on.
        self.environment = environment(device)
        self.code = self.environment["code"]
        # Tuning looks at the held-out part where there is one, so the best epoch is chosen there.
        self.watched = next(iter(run.splits))
        folder.write_json("env.json", self.environment)

    def resume(self) -> int:
        """Continue from the folder's checkpoint, and return the step to start with."""
        path = self.folder.checkpoint
        if not path.exists():
            return 0
        state = checkpoint.load(path)
        checkpoint.restore(self.run, state, path)
        self.rows, self.best = self.folder.metrics(state["step"]), state["best"]
        self.log(f"resuming {self.folder.path} at step {state['step']} of {self.run.total}")
        if state["code"] != self.code:
            self.log(f"note: the checkpoint was written by code {state['code']}, this is {self.code}")
        return state["step"]

    def evaluate(self, last: bool, epoch: int) -> dict[str, float]:
        """Columns of accuracy and loss; of the test set only in the end where a part is held out."""
        began = time.perf_counter()
        names = list(self.run.splits) if last else [self.watched]
        columns: dict[str, float] = {}
        for name in names:
            for prefix, result in self._evaluations(name).items():
                columns |= {f"{prefix}{name}_accuracy": result.accuracy, f"{prefix}{name}_loss": result.loss}
        accuracy = columns[f"{self.watched}_accuracy"]
        if self.best is None or accuracy > self.best["accuracy"]:
            self.best = {"epoch": epoch, "accuracy": accuracy, "split": self.watched}
        return columns | {"seconds_evaluate": time.perf_counter() - began}

    def _evaluations(self, split: str) -> dict[str, Evaluation]:
        """The model's evaluation under the prefix "", each average's under its name."""
        models = {"": self.run.model} | {
            f"{name}_": average.model for name, average in self.run.averages.items()
        }
        data, normalize, precision = self.run.splits[split], self.run.normalize, self.run.precision
        return {prefix: evaluate(model, data, normalize, precision) for prefix, model in models.items()}

    def add(self, row: dict[str, Any]) -> None:
        """An epoch's row, to disk and to the console."""
        self.rows.append(row)
        self.folder.write_metrics(self.rows)
        accuracies = [
            f"{key.removesuffix('_accuracy').replace('_', ' ')} {value:.2f} %"
            for key, value in row.items()
            if key.endswith("_accuracy")
        ]
        epochs = math.ceil(self.run.epochs)
        self.log(
            "  ".join(
                [
                    f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}",
                    f"loss {row['train_loss']:.4f}",
                    *accuracies,
                ]
                + [
                    f"lr {row['lr']:.3g}",
                    f"{row['images_per_second']:,.0f} images/s",
                    f"{row['seconds_train']:.1f} s",
                ]
            )
        )

    def save(self, step: int) -> None:
        path = self.folder.checkpoint
        checkpoint.save(path, self.run, step, self.config.tree(), self.best, self.code)

    def diverged(self, error: Diverged) -> dict[str, Any]:
        return self._result("diverged", {"step": error.step, "lr": error.lr, "loss": str(error.loss)})

    def finish(self) -> dict[str, Any]:
        """Predictions, curves and the result, which is written last."""
        evaluations = self._evaluations("test")
        arrays = {f"{prefix}logits": evaluation.logits.numpy() for prefix, evaluation in evaluations.items()}
        self.folder.write_predictions(arrays | {"y": self.run.splits["test"].y.cpu().numpy()})
        last = self.rows[-1]
        columns = {key: value for key, value in last.items() if key.endswith(("_accuracy", "_loss"))}
        return self._result("ok", columns)

    def _result(self, status: str, outcome: dict[str, Any]) -> dict[str, Any]:
        def total(key: str) -> float:
            return sum(row.get(key, 0.0) for row in self.rows)

        config = self.config
        seconds = {part: total(f"seconds_{part}") for part in ("train", "data", "evaluate")}
        images = self.rows[-1]["step"] * self.run.data.batch_size if self.rows else 0
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
            "seconds": seconds,
            "images_per_second": images / seconds["train"] if images else None,
            "peak_memory_mb": max((row["peak_memory_mb"] for row in self.rows), default=None),
            "environment": self.environment,
        }
        if self.rows:
            title = f"{result['model']} on {result['dataset']}"
            self.folder.write_curves(draw_curves(self.rows, title))
        self.folder.write_json("result.json", result)
        return result


def outcome(result: dict[str, Any], folder: Path) -> str:
    """How a run ended, and where its record is."""
    if result["status"] == "diverged":
        where = f"at step {result['step']} with learning rate {result['lr']:.6g}"
        return f"diverged: loss {result['loss']} {where}\nrun folder: {folder}"
    columns = [key for key in result if key.endswith("_accuracy")]
    best, seconds = result["best"], result["seconds"]
    return "\n".join(
        [
            "  ".join(
                f"{key.removesuffix('_accuracy').replace('_', ' ')} accuracy {result[key]:.2f} %"
                for key in columns
            )
            + f"  (last epoch; best {best['split']} {best['accuracy']:.2f} % in epoch {best['epoch']})",
            f"time: train {seconds['train']:.1f} s (of which data {seconds['data']:.1f} s), "
            f"evaluate {seconds['evaluate']:.1f} s; {result['images_per_second']:,.0f} images/s, "
            f"peak memory {result['peak_memory_mb']:,.0f} MB",
            f"run folder: {folder}",
            f"curves: {folder / 'curves.png'}",
        ]
    )
