"""Which classes a run takes for which, counted from the predictions that it has kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...engine.metrics import confusion
from ..confusion import confusion_figure
from ..records import RunRecord
from ..run_metrics import predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(run: RunRecord, title: str = "") -> Figure:
    """The confusion matrix of the last epoch on the test images.

    Raises:
        BadInput: the predictions are missing, damaged, or of other weights than the record.
    """
    counts = count(run)
    result = run.result
    what = f"{result['model']} on {result['dataset']}, seed {run.seed}"
    title = title or f"{what}: test accuracy {result['test_accuracy']:.2f} %"
    names = class_names(run, len(counts)) or tuple(map(str, range(len(counts))))
    return confusion_figure(counts, names, title)


def count(run: RunRecord) -> Tensor:
    """(K, K) test images: the true class down, the guess across."""
    _, y = predictions(run)
    with np.load(run.folder / "predictions.npz") as arrays:
        logits = arrays["logits"]
    return confusion(torch.from_numpy(logits), torch.from_numpy(y))


def class_names(run: RunRecord, K: int) -> tuple[str, ...] | None:
    """The names that an evaluation of the run has written down, if there was one."""
    try:
        names = tuple(map(str, json.loads((run.folder / "evaluation.json").read_text())["classes"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return names if len(names) == K else None
