"""`python train.py --evaluate RUN`: evaluate the networks of a trained run, print and record the results."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..config.schema import Config
from ..core.errors import BadInput
from ..core.files import write_atomic
from ..engine.evaluate import Evaluation
from ..engine.metrics import (
    best_temperature,
    beyond_accuracy,
    calibration_error,
    class_accuracy,
    confusion,
    nll,
)
from ..factory.load import load_as
from ..report.mistakes import draw_mistakes, most_confident
from ..report.plots.confusion import confusion_text, draw_confusion
from ..report.text import aligned, number
from ..store.checkpoint import Checkpoint
from ..store.environment import environment
from ..store.run_folder import read_result
from .other_sets import on_other_sets, other_sets_text
from .predict import evaluate
from .robustness import corruption_error, robustness, robustness_text

FORMAT = 1
SHOWN = 24  # mistakes in errors.png
ORACLE = (
    "T is the best temperature for the test images themselves, because no images are held out (--val):\n"
    "the columns at T are an oracle's upper bound of temperature scaling, not a result"
)
HELD_OUT = "T is the best temperature for the held-out images, val"


def evaluate_run(config: Config, folder: Path, on: Sequence[str] = ()) -> str:
    """Evaluate every network of a run; write `evaluation.json`, `confusion.png` and `errors.png`.

    Args:
        config: the run's own, with changes to settings of evaluation only.
        on: further data sets to evaluate on.
    Returns:
        The text to print.
    Raises:
        BadInput: there is no run in the folder, or it cannot be written to.
    """
    result = read_result(folder)
    try:
        run = load_as(config, Checkpoint.read(folder))
        images = {name: part for name, part in run.images.items() if name != "train"}
        found = {
            name: {split: evaluate(model, part, run.precision) for split, part in images.items()}
            for name, model in run.models.items()
        }
        robust, test = {}, images["test"]
        if config.evaluate.corruptions:
            robust = robustness(run.models, test.split, test.normalize, run.precision)
        others = on_other_sets(run, on, {name: splits["test"] for name, splits in found.items()})
    except torch.OutOfMemoryError as error:
        raise BadInput("the device is out of memory; use --device cpu") from error
    checkpoint, test = run.checkpoint, found["last"]["test"]
    report = {
        "format": FORMAT,
        "step": checkpoint.step,
        "trained_by": checkpoint.code,
        "classes": list(run.classes),
        "networks": {name: _results(name, splits, result) for name, splits in found.items()},
        **({"on": others} if others else {}),
        "environment": environment(run.device),
    }
    for name, accuracies in robust.items():
        error = {"corruption_error": corruption_error(accuracies), "corruptions": accuracies}
        report["networks"][name]["test"] |= error
    counts = confusion(test.logits, test.y)
    title = f"{config.chosen['model'].entry.name} on {config.chosen['data'].entry.name}"
    figure = draw_confusion(counts, run.classes, f"{title}: test accuracy {test.accuracy:.2f} %")
    write_atomic(folder / "evaluation.json", json.dumps(report, indent=1) + "\n")
    write_atomic(folder / "confusion.png", figure)
    lines = [f"record: {folder / 'evaluation.json'}", f"confusion: {folder / 'confusion.png'}"]
    shown = most_confident(run.models["last"], images["test"], test.logits, run.classes, SHOWN)
    if shown:
        write_atomic(folder / "errors.png", draw_mistakes(shown, f"{title}: most confident mistakes"))
        lines.append(f"mistakes, and the evidence for them (Grad-CAM): {folder / 'errors.png'}")
    state = "" if result else "; the run is not complete, this is its newest checkpoint"
    return "\n\n".join(
        [
            f"{title}, seed {config.train.seed}, after {checkpoint.step:,} steps{state}",
            _table(report),
            _class_table(report),
            confusion_text(counts, run.classes),
            *([robustness_text(robust)] if robust else []),
            *([other_sets_text(others)] if others else []),
            "\n".join(lines),
        ]
    )


def _results(name: str, splits: dict[str, Evaluation], result: dict[str, Any] | None) -> dict[str, Any]:
    """The metrics of one network on each split; of the test images also with temperature scaling."""
    prefix = "" if name == "last" else f"{name}_"
    results: dict[str, Any] = {
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
    results["test"]["scaled" if fitted_on == "val" else "oracle_scaled"] = {
        "fitted_on": fitted_on,
        "temperature": T,
        "loss": nll(test.logits, test.y, T),
        "ece": calibration_error(test.logits, test.y, T),
    }
    counts = confusion(test.logits, test.y)
    accuracies = class_accuracy(counts).tolist()
    results["test"]["class_accuracy"] = [None if math.isnan(a) else a for a in accuracies]
    results["test"]["confusion"] = counts.tolist()
    return results


def _table(report: dict[str, Any]) -> str:
    """A row for each network and split."""
    heads = ["network", "split", "images", "top-1 %", "recorded %", "top-5 %", "loss", "ECE %"]
    rows = [[*heads, "T", "loss at T", "ECE at T %"]]
    for name, splits in report["networks"].items():
        for split, results in splits.items():
            row = [name, split, f"{results['images']:,}"]
            row += [number(results.get(key)) for key in ("accuracy", "recorded_accuracy", "top5")]
            row += [f"{results['loss']:.4f}", number(results["ece"])]
            if scaled := results.get("scaled") or results.get("oracle_scaled"):
                row += [f"{scaled['temperature']:.3f}", f"{scaled['loss']:.4f}", number(scaled["ece"])]
            rows.append(row + [""] * (len(rows[0]) - len(row)))
    tests = {name: splits["test"] for name, splits in report["networks"].items()}
    lines = [aligned(rows), HELD_OUT if "scaled" in tests["last"] else ORACLE]
    lines += [
        f"note: {name} is {test['accuracy'] - test['recorded_accuracy']:+.2f} points off its record: "
        "other hardware, other versions or compiled code round differently"
        for name, test in tests.items()
        if test["recorded_accuracy"] not in (None, test["accuracy"])
    ]
    return "\n".join(lines)


def _class_table(report: dict[str, Any]) -> str:
    """The test accuracy of each network on each class."""
    tests = [splits["test"] for splits in report["networks"].values()]
    images = [sum(row) for row in tests[0]["confusion"]]
    rows = [("class", "images", *(f"{name} %" for name in report["networks"]))]
    for k, name in enumerate(report["classes"]):
        rows.append((name, str(images[k]), *(number(test["class_accuracy"][k]) for test in tests)))
    return aligned(rows)
