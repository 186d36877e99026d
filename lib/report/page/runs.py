"""What the page knows of each run beyond the table: plain data for the scripts that show it."""

import json
from typing import Any

from ..records import RunRecord
from ..text import NONE, duration, is_number, number, petaflop
from .content import Content, Setting
from .settings import badge_of

DIGITS = 6  # of a value in a curve: more than any screen shows
DRAWN = ("_loss", "_accuracy")  # ends of the columns that are curves


def runs_data(content: Content) -> dict[str, Any]:
    """Each run by its name."""
    return {
        content.names[run.folder]: _run(run, setting) for setting in content.settings for run in setting.runs
    }


def _run(run: RunRecord, setting: Setting) -> dict[str, Any]:
    environment = _dict(run.result["environment"])
    data = {f"data, {name}": value for name, value in _dict(run.result.get("data")).items()}
    command = environment.get("command")
    return {
        "name": setting.row.name,
        "setting": f"{setting.row.setting} {setting.dataset}",
        "seed": str(run.seed),
        "status": run.status,
        "badge": badge_of(run.status),
        "folder": str(run.folder),
        "facts": _facts(run),
        "curves": _curves(run),
        "command": f"python {command}" if command else None,
        "settings": [[key, _told(value)] for key, value in sorted(run.settings.items())],
        "config": _config(run),
        "environment": [
            [key, _told(value)] for key, value in (environment | data).items() if key != "command"
        ],
    }


def _facts(run: RunRecord) -> list[list[str]]:
    """Names and values: the accuracies first, the headline before the others."""
    result = run.result
    keys = sorted(
        (key for key in result if key.endswith("_accuracy")), key=lambda key: key != "test_accuracy"
    )
    facts = [[_words(key), _percent(result[key])] for key in keys]
    best = _dict(result.get("best"))
    if "accuracy" in best:
        where = f"best epoch ({best.get('epoch')}, {best.get('split', 'test')} set)"
        facts.append([where, _percent(best["accuracy"])])
    seconds, epochs = _dict(result.get("seconds")), result.get("epochs")
    facts += [
        ["training", duration(seconds.get("train"))],
        ["PFLOP of training", petaflop(result.get("train_flops"))],
        ["images a second", number(result.get("images_per_second"), ",.0f")],
        ["peak memory", _with(number(result.get("peak_memory_mb"), ",.0f"), "MB")],
        ["model", str(result["model"])],
        ["parameters", number(result.get("parameters"), ",.0f")],
        ["data set", str(result["dataset"])],
        ["epochs", f"{epochs:g}" if is_number(epochs) else NONE],
        ["steps", number(result["steps"], ",.0f")],
    ]
    return [[name, value] for name, value in facts if value != NONE]


def _curves(run: RunRecord) -> dict[str, list[float | None]]:
    """Columns of metrics.jsonl; none where it is missing or damaged: the rest can be shown all the same."""
    try:
        rows = [row for row in run.epochs if isinstance(row["epoch"], int | float)]
        keys = ["epoch", "lr", *dict.fromkeys(key for row in rows for key in row if key.endswith(DRAWN))]
        return {key: [_rounded(row.get(key)) for row in rows] for key in keys}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _config(run: RunRecord) -> str | None:
    try:
        return (run.folder / "config.yaml").read_text()
    except (OSError, ValueError):
        return None


def _rounded(value: float | None) -> float | None:
    """Without what JSON has no word for: a run that diverged ends in nan."""
    return float(f"{value:.{DIGITS}g}") if is_number(value) else None


def _words(key: str) -> str:
    return key.removesuffix("_accuracy").replace("_", " ") + " accuracy"


def _percent(value: float | None) -> str:
    return _with(number(value), "%")


def _with(text: str, unit: str) -> str:
    return text if text == NONE else f"{text} {unit}"


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items())
    return value if isinstance(value, str) else NONE if value is None else json.dumps(value)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
