"""`python train.py --evaluate RUN`: what the networks of a trained run are worth, told and written down."""

import json
import math
from pathlib import Path
from typing import Any

import torch

from ..config.schema import Config
from ..core.errors import BadInput
from ..core.files import write_atomic
from ..engine.evaluate import Evaluation, evaluate
from ..engine.metrics import (
    best_temperature,
    beyond_accuracy,
    calibration_error,
    class_accuracy,
    confusion,
    nll,
)
from ..factory.networks import Trained, load_trained
from ..report.plots.confusion import confusion_text, draw_confusion
from ..report.text import aligned, percent
from ..store.environment import environment
from ..store.run_folder import read_result
from .robustness import corruption_error, robustness, robustness_text

FORMAT = 1
ORACLE = (
    "T is the best temperature for the test images themselves, for no part is held out (--val):\n"
    "the columns at T are an oracle's, the best that scaling could do, and no result"
)
HELD_OUT = "T is the best temperature for the held-out part, val"


def assess(config: Config, folder: Path) -> str:
    """Evaluate every network of a run, write `evaluation.json` and `confusion.png` into its folder.

    Returns:
        What is to be told, as text.
    Raises:
        BadInput: the folder holds no run, or cannot be written to.
    """
    result = read_result(folder)
    try:
        trained = load_trained(config, folder)
        found = {
            name: {
                split: evaluate(model, part, trained.normalize, trained.precision)
                for split, part in trained.splits.items()
            }
            for name, model in trained.models.items()
        }
        robust = {}
        if config.evaluate.corruptions:
            robust = robustness(trained.models, trained.splits["test"], trained.normalize, trained.precision)
    except torch.OutOfMemoryError as error:
        raise BadInput("the device is out of memory; use --device cpu") from error
    report = {
        "format": FORMAT,
        "step": trained.step,
        "trained_by": trained.code,
        "classes": list(trained.classes),
        "networks": {name: _worth(name, splits, result) for name, splits in found.items()},
        "environment": environment(trained.device),
    }
    for name, accuracies in robust.items():
        error = {"corruption_error": corruption_error(accuracies), "corruptions": accuracies}
        report["networks"][name]["test"] |= error
    counts = confusion(found["last"]["test"].logits, found["last"]["test"].y)
    what = f"{config.chosen['model'].entry.name} on {config.chosen['data'].entry.name}"
    accuracy = found["last"]["test"].accuracy
    write_atomic(folder / "evaluation.json", json.dumps(report, indent=1) + "\n")
    write_atomic(
        folder / "confusion.png",
        draw_confusion(counts, trained.classes, f"{what}: test accuracy {accuracy:.2f} %"),
    )
    state = "" if result else "; the run is not complete, this is its newest checkpoint"
    return "\n\n".join(
        [
            f"{what}, seed {config.train.seed}, after {trained.step:,} steps{state}",
            _table(report, result),
            _class_table(report, trained),
            confusion_text(counts, trained.classes),
            *([robustness_text(robust)] if robust else []),
            f"record: {folder / 'evaluation.json'}\nconfusion: {folder / 'confusion.png'}",
        ]
    )


def _worth(name: str, splits: dict[str, Evaluation], result: dict[str, Any] | None) -> dict[str, Any]:
    """The numbers of one network on each split, and its scaled ones on the test images."""
    prefix = "" if name == "last" else f"{name}_"
    worth: dict[str, Any] = {
        split: {
            "images": len(e.y),
            "accuracy": e.accuracy,
            "recorded_accuracy": (result or {}).get(f"{prefix}{split}_accuracy"),
            "loss": e.loss,
            **beyond_accuracy(e.logits, e.y),
        }
        for split, e in splits.items()
    }
    test = splits["test"]
    fitted_on = "val" if "val" in splits else "test"
    T = best_temperature(splits[fitted_on].logits, splits[fitted_on].y)
    worth["test"]["scaled" if fitted_on == "val" else "oracle_scaled"] = {
        "fitted_on": fitted_on,
        "temperature": T,
        "loss": nll(test.logits, test.y, T),
        "ece": calibration_error(test.logits, test.y, T),
    }
    counts = confusion(test.logits, test.y)
    shares = class_accuracy(counts).tolist()
    worth["test"]["class_accuracy"] = [None if math.isnan(share) else share for share in shares]
    worth["test"]["confusion"] = counts.tolist()
    return worth


def _table(report: dict[str, Any], result: dict[str, Any] | None) -> str:
    """A row for each network and split."""
    heads = ["network", "split", "images", "top-1 %", "recorded %", "top-5 %", "loss", "ECE %"]
    rows = [[*heads, "T", "loss at T", "ECE at T %"]]
    for name, splits in report["networks"].items():
        for split, worth in splits.items():
            scaled = worth.get("scaled") or worth.get("oracle_scaled")
            numbers = [percent(worth.get(key)) for key in ("accuracy", "recorded_accuracy", "top5")]
            row = [
                name,
                split,
                f"{worth['images']:,}",
                *numbers,
                f"{worth['loss']:.4f}",
                percent(worth["ece"]),
            ]
            at = (
                [f"{scaled['temperature']:.3f}", f"{scaled['loss']:.4f}", percent(scaled["ece"])]
                if scaled
                else []
            )
            rows.append(row + (at or ["", "", ""]))
    tests = {name: splits["test"] for name, splits in report["networks"].items()}
    lines = [aligned(rows), HELD_OUT if "scaled" in tests["last"] else ORACLE]
    lines += [
        f"note: {name} is {worth['accuracy'] - worth['recorded_accuracy']:+.2f} points off its record: other "
        "hardware, other versions or compiled code round differently"
        for name, worth in tests.items()
        if worth["recorded_accuracy"] not in (None, worth["accuracy"])
    ]
    return "\n".join(lines)


def _class_table(report: dict[str, Any], trained: Trained) -> str:
    """A row for each class: the share of its test images that each network recognises."""
    tests = [splits["test"] for splits in report["networks"].values()]
    images = [sum(row) for row in tests[0]["confusion"]]
    rows = [("class", "images", *(f"{name} %" for name in report["networks"]))]
    for k, name in enumerate(trained.classes):
        rows.append((name, str(images[k]), *(percent(test["class_accuracy"][k]) for test in tests)))
    return aligned(rows)
