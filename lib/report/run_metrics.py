"""What is read off a run: its headline, other columns on demand, and its accuracy at a budget of compute."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..core.errors import BadInput, nearest
from .records import RunRecord

ACCURACY = "_test_accuracy"


def headline(run: RunRecord) -> float:
    """The last epoch's accuracy on the test set, in percent."""
    return run.result["test_accuracy"]


def seconds(run: RunRecord) -> float | None:
    """What training took, evaluation and start aside."""
    parts = run.result.get("seconds")
    return _float(parts.get("train")) if isinstance(parts, dict) else None


def flops(run: RunRecord) -> float | None:
    """The floating-point operations of training; older records have none."""
    return _float(run.result.get("train_flops")) or None


@dataclass(frozen=True)
class RunMetric:
    name: str
    label: str
    read: Callable[[RunRecord], float | None]


def run_metric(name: str, runs: Sequence[RunRecord]) -> RunMetric:
    """A column on demand: `best`, the accuracy of an average or a view (`ema`, `tta_flip`), or a number of
    the records (`test_top5`, `peak_memory_mb`).

    Raises:
        BadInput: none of the runs has it; the message holds the nearest that they have.
    """
    key = name.replace("-", "_")
    if key == "best":
        splits = {(run.result.get("best") or {}).get("split", "test") for run in runs}
        # Where a part of the training images is held out, the best epoch is chosen, and measured, there.
        told = {"test": "chosen on the test set"}
        label = ", ".join(["best epoch", *(told.get(s, f"accuracy on {s}") for s in sorted(splits))])
        return RunMetric(key, label, lambda run: (run.result.get("best") or {}).get("accuracy"))
    known = {k for run in runs for k, v in run.result.items() if _number(v)}
    for candidate in (key + ACCURACY, f"test_{key}", key):
        if candidate in known:
            label = f"{key} accuracy, %" if candidate == key + ACCURACY else candidate.replace("_", " ")
            return RunMetric(key, label, lambda run, of=candidate: _float(run.result.get(of)))
    spelled = ["best", *sorted(k.removesuffix(ACCURACY) for k in known)]
    raise BadInput(f"unknown column {name!r}: {nearest(name, spelled) or 'there are ' + ', '.join(spelled)}")


def accuracy_at(run: RunRecord, flops: float) -> float | None:
    """The accuracy on the test set when training had cost so many operations, from the evaluated epochs
    around that point; None where the run does not tell.
    """
    try:
        spent = accumulate(row.get("flops") or np.nan for row in run.epochs)
        points = [
            (x, row["test_accuracy"])
            for x, row in zip(spent, run.epochs, strict=True)
            if "test_accuracy" in row and x == x
        ]
    except (OSError, ValueError, TypeError, AttributeError):  # metrics.jsonl is missing or damaged
        return None
    if not points or not points[0][0] <= flops <= points[-1][0] * (1 + 1e-9):
        return None
    return float(np.interp(flops, *zip(*points, strict=True)))


def predictions(run: RunRecord) -> tuple[np.ndarray, np.ndarray]:
    """(N,) whether each test image was recognised, and (N,) its class.

    Raises:
        BadInput: they are missing, damaged, or of other weights than the record.
    """
    path = run.folder / "predictions.npz"
    try:
        with np.load(path) as arrays:
            y = arrays["y"]
            right = arrays["logits"].argmax(1) == y
    except FileNotFoundError:
        raise BadInput(f"{path} is not there") from None
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} cannot be read ({type(error).__name__})") from error
    if abs(100 * right.mean() - headline(run)) > 0.5 / len(y) * 100:
        raise BadInput(f"{path} gives {100 * right.mean():.2f} %, but the record says {headline(run):.2f} %")
    return right, y


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: object) -> float | None:
    return float(value) if _number(value) and value == value else None
