"""What a finished run has learned and measured, for comparison bit for bit."""

import json
from pathlib import Path

import numpy as np

import lib.store.checkpoint
from tests.helpers.bits import bits

TIMES = tuple(f"seconds_{part}" for part in ("start", "train", "data", "select", "evaluate"))
TIMES += ("images_per_second", "peak_memory_mb")


def metrics_of(folder: str) -> list[dict]:
    """The rows of metrics.jsonl without times and memory."""
    rows = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def learned(folder: str) -> dict:
    """Checkpoint, result, metrics and predictions of a run folder, without times and places."""
    state = lib.store.checkpoint.load(Path(folder, "last.pt"))
    del state["code"]  # it changes when a file is edited while the tests run
    del state["checks"]["rows"]  # they have times
    result = json.loads(Path(folder, "result.json").read_text())
    del state["config"]["run"], result["config_diff"]["run"]  # how it was run, not what it learned
    for key in ("seconds", "environment", *TIMES):
        result.pop(key, None)
    with np.load(Path(folder, "predictions.npz")) as arrays:
        predictions = dict(arrays)
    metrics = metrics_of(folder)
    return {"state": bits(state), "result": result, "metrics": metrics, "logits": bits(predictions)}
