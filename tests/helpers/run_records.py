"""Run folders with chosen outcomes, for tests of reports."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_run(folder: Path, name: str, seed: int, accuracy: float | None, **more: Any) -> Path:
    """A record in `folder/name/seed<k>`; `more` overrides its entries, and `rows` are its epochs."""
    rows = more.pop("rows", [{"epoch": 1, "step": 10, "test_accuracy": accuracy}])
    record = {
        "format": 1,
        "status": "ok",
        "dataset": "cifar10",
        "model": "resnet9",
        "seed": seed,
        "config": f"{sum(map(ord, name)):08x}",
        "config_diff": {"augment": {name: True}} if name != "none" else {},
        "steps": 10,
        "test_accuracy": accuracy,
        "best": {"epoch": 1, "accuracy": accuracy, "split": "test"},
        "seconds": {"train": 60.0},
        "environment": {"code": "abc", "device": "cpu"},
        **more,
    }
    path = folder / name / f"seed{seed}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "result.json").write_text(json.dumps(record))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_runs(folder: Path, name: str, accuracies: list[float], **more: Any) -> None:
    """Write a record for each accuracy, with seeds from 0."""
    for seed, accuracy in enumerate(accuracies):
        write_run(folder, name, seed, accuracy, **more)


def write_predictions(path: Path, right: np.ndarray, y: np.ndarray, classes: int = 10) -> None:
    """Write logits (N, K) that classify correctly the images for which `right` (N,) is true."""
    guess = np.where(right, y, (y + 1) % classes)
    np.savez(path / "predictions.npz", logits=np.eye(classes, dtype=np.float32)[guess], y=y)
