"""Numbers of a run: its headline, other columns on demand, and its accuracy at a compute budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..core.errors import BadInput, nearest
from .records import RunRecord
from .text import is_number

ACCURACY = "_test_accuracy"


def headline(run: RunRecord) -> float:
    """Test accuracy of the last epoch, in percent."""
    return run.result["test_accuracy"]


def seconds(run: RunRecord) -> float | None:
    """Seconds of training, without start and evaluation."""
    parts = run.result.get("seconds")
    return _float(parts.get("train")) if isinstance(parts, dict) else None


def flops(run: RunRecord) -> float | None:
    """Floating-point operations of training; None in older records."""
    return _float(run.result.get("train_flops")) or None


@dataclass(frozen=True)
class RunMetric:
    name: str
    label: str
    read: Callable[[RunRecord], float | None]


def run_metric(name: str, runs: Sequence[RunRecord]) -> RunMetric:
    """A column on demand: `best`, an accuracy with averaged weights or test-time augmentation (`ema`,
    `tta_flip`), or a number of the records (`test_top5`, `peak_memory_mb`).

    Raises:
        BadInput: none of the runs has it; the message suggests similar names.
    """
    key = name.replace("-", "_")
    if key == "best":
        splits = {(run.result.get("best") or {}).get("split", "test") for run in runs}
        # With a held-out part of the training images, the best epoch is chosen and measured there.
        names = {"test": "chosen on the test set"}
        label = ", ".join(names.get(split, f"accuracy on {split}") for split in sorted(splits))
        label = f"best epoch, {label}"
        return RunMetric(key, label, lambda run: (run.result.get("best") or {}).get("accuracy"))
    known = {k for run in runs for k, v in run.result.items() if is_number(v)}
    for candidate in (key + ACCURACY, f"test_{key}", key):
        if candidate in known:
            label = f"{key} accuracy, %" if candidate == key + ACCURACY else candidate.replace("_", " ")
            return RunMetric(key, label, lambda run, of=candidate: _float(run.result.get(of)))
    spelled = ["best", *sorted(k.removesuffix(ACCURACY) for k in known)]
    raise BadInput(f"unknown column {name!r}: {nearest(name, spelled) or 'there are ' + ', '.join(spelled)}")


def accuracy_at(run: RunRecord, flops: float) -> float | None:
    """The test accuracy after this many operations of training, interpolated between evaluated epochs, or
    None.
    """
    try:
        spent = accumulate(row.get("flops") or np.nan for row in run.epochs)
        rows = [(x, row) for x, row in zip(spent, run.epochs, strict=True) if x == x]
        points = [(x, row["test_accuracy"]) for x, row in rows if "test_accuracy" in row]
    except (OSError, ValueError, TypeError, AttributeError):  # metrics.jsonl is missing or damaged
        return None
    if not points or not points[0][0] <= flops <= points[-1][0] * (1 + 1e-9):
        return None
    return float(np.interp(flops, *zip(*points, strict=True)))


def predictions(run: RunRecord) -> tuple[np.ndarray, np.ndarray]:
    """The logits (N, K) of the test images, and their classes (N,).

    Raises:
        BadInput: the file is missing, damaged, or from other weights than the record.
    """
    path = run.folder / "predictions.npz"
    try:
        with np.load(path) as arrays:
            logits, y = arrays["logits"], arrays["y"]
            accuracy = 100 * (logits.argmax(1) == y).mean()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist") from None
    except Exception as error:  # numpy and zipfile raise many types for bytes that they cannot read
        raise BadInput(f"{path} cannot be read ({type(error).__name__})") from error
    if abs(accuracy - headline(run)) > 0.5 / len(y) * 100:
        raise BadInput(f"{path} gives {accuracy:.2f} %, but the record says {headline(run):.2f} %")
    return logits, y


def _float(value: object) -> float | None:
    return float(value) if is_number(value) else None
