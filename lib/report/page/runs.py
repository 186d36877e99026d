"""The details of each run, as JSON for the dialog of the page."""

import json
from typing import Any

from ..records import RunRecord
from ..text import NONE, duration, number, petaflop
from .content import Content, Setting
from .settings import badge_of


def runs_data(content: Content) -> dict[str, Any]:
    """The runs by name."""
    return {
        content.names[run.folder]: _run(run, setting) | {"curves": [place, index]}
        for place, setting in enumerate(content.settings)
        for index, run in enumerate(setting.runs)
    }


def _run(run: RunRecord, setting: Setting) -> dict[str, Any]:
    environment = dict(_dict(run.result["environment"]))
    command = environment.pop("command", None)
    environment |= {f"data, {name}": value for name, value in _dict(run.result.get("data")).items()}
    return {
        "name": setting.row.name,
        "seed": str(run.seed),
        "status": run.status,
        "badge": badge_of(run.status),
        "folder": str(run.folder),
        "facts": _facts(run),
        "command": f"python {command}" if command else None,
        "settings": [[key, _text(value)] for key, value in sorted(run.settings.items())],
        "config": _config(run),
        "environment": [[key, _text(value)] for key, value in environment.items()],
    }


def _facts(run: RunRecord) -> list[list[str]]:
    """Names and values: accuracies first, the headline before the others."""
    result = run.result
    accuracies = [key for key in result if key.endswith("_accuracy")]
    keys = sorted(accuracies, key=lambda key: key != "test_accuracy")
    facts = [[key.replace("_", " "), number(result[key], unit=" %")] for key in keys]
    best = _dict(result.get("best"))
    if "accuracy" in best:
        where = f"best epoch ({best.get('epoch')}, {best.get('split', 'test')} set)"
        facts.append([where, number(best["accuracy"], unit=" %")])
    facts += [
        ["training loss", number(result.get("train_loss"), ".4f")],
        ["test loss", number(result.get("test_loss"), ".4f")],
        ["training", duration(_dict(result.get("seconds")).get("train"))],
        ["PFLOP of training", petaflop(result.get("train_flops"))],
        ["images a second", number(result.get("images_per_second"), ",.0f")],
        ["peak memory", number(result.get("peak_memory_mb"), ",.0f", " MB")],
        ["model", str(result["model"])],
        ["parameters", number(result.get("parameters"), ",.0f")],
        ["data set", str(result["dataset"])],
        ["epochs", number(result.get("epochs"), "g")],
        ["steps", number(result["steps"], ",.0f")],
    ]
    return [[name, value] for name, value in facts if value != NONE]


def _config(run: RunRecord) -> str | None:
    try:
        return (run.folder / "config.yaml").read_text()
    except (OSError, ValueError):
        return None


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return value if isinstance(value, str) else NONE if value is None else json.dumps(value)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
