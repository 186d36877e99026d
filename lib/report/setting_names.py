"""Names for the rows of a table: from their folders, from their differences, or as columns of ticks.

A setting is a configuration without the seed. Each of its runs has a folder `<name>/seed<k>`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..config.schema import SECTIONS
from ..config.spelling import path_of
from ..core.registry import datasets
from .records import RunRecord

TICK, NONE = "✓", "–"


def row_names(rows: Mapping[str, Sequence[RunRecord]]) -> dict[str, str]:
    """A unique name for each setting: that of its folder if unique, else its differences to the others."""
    folders = {setting: folder_name(runs) for setting, runs in rows.items()}
    seen = Counter(folders.values())
    apart = distinctions({setting: runs[0].settings for setting, runs in rows.items()})
    repeated = Counter(apart.values())
    names = {}
    for setting, folder in folders.items():
        if folder and seen[folder] == 1:
            names[setting] = folder
        else:
            # Equal settings with different hashes: defaults changed between versions of the code.
            extra = f" ({setting})" if repeated[apart[setting]] > 1 else ""
            names[setting] = f"{apart[setting]}{extra}"
    taken = Counter(names.values())
    return {setting: name if taken[name] == 1 else f"{name} ({setting})" for setting, name in names.items()}


def folder_name(runs: Sequence[RunRecord]) -> str | None:
    """The common name of the folders of a setting's runs; None if they differ."""
    names = {own_name(run) for run in runs}
    return names.pop() if len(names) == 1 else None


def own_name(run: RunRecord) -> str:
    """The name of the folder that contains the folders of seeds, without the hash at its end."""
    folder = run.folder.resolve()
    name = folder.parent.name if folder.name.startswith("seed") else folder.name
    return name.removesuffix(f"-{run.setting}")


def distinctions(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each setting, the values that not all settings share: `cutout, mixup.alpha=0.2`."""
    keys = {key for flat in settings.values() for key in flat}
    shared = {key for key in keys if len({repr(flat.get(key)) for flat in settings.values()}) == 1}
    return {
        setting: ", ".join(_text(key, value) for key, value in flat.items() if key not in shared) or "plain"
        for setting, flat in settings.items()
    }


def _text(key: str, value: Any) -> str:
    section, _, name = key.partition(".")
    if section in SECTIONS and SECTIONS[section].is_tricks:
        return name if value is True else f"no {name}" if value is False else f"{name}={value}"
    return f"{key}={value}"


def tick_columns(names: Sequence[str], rows: Mapping[str, Sequence[RunRecord]]) -> dict[str, dict[str, str]]:
    """For each setting, a cell for each name: a tick for a trick that is on, with its options if these differ
    between rows, and the value of anything else. An unknown name is a BadInput that suggests similar ones.
    """
    cells: dict[str, dict[str, str]] = {setting: {} for setting in rows}
    for name in names:
        path = path_of(name)
        trick = SECTIONS[path[0]].is_tricks and len(path) == 2
        options = {setting: _options(path, runs[0].settings) for setting, runs in rows.items()}
        on = {setting for setting, runs in rows.items() if trick and _is_on(path, runs[0])}
        differ = len({repr(options[setting]) for setting in on}) > 1
        for setting, runs in rows.items():
            if trick:
                shown = " ".join(f"{key}={value}" for key, value in options[setting].items())
                extra = shown if differ else ""
                cells[setting][name] = f"{TICK} {extra}".strip() if setting in on else NONE
            else:
                value = _value(path, runs[0])
                cells[setting][name] = NONE if value is None else str(value)
    return cells


def _options(path: tuple[str, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    start = ".".join(path) + "."
    return {key.removeprefix(start): value for key, value in settings.items() if key.startswith(start)}


def _is_on(path: tuple[str, ...], run: RunRecord) -> bool:
    usual = path[1] in datasets[run.result["dataset"]].facts.usual(path[0])
    return bool(run.settings.get(".".join(path), usual)) or bool(_options(path, run.settings))


def _value(path: tuple[str, ...], run: RunRecord) -> Any:
    """The value of an option: as changed, else the default, which may depend on other choices."""
    key = ".".join(path)
    if key in run.settings:
        return run.settings[key]
    section = SECTIONS[path[0]]
    if section.is_tricks:  # an option of a trick
        on = _is_on(path[:2], run)
        return section.registry[path[1]].fields[path[2]].default if on and path[2:] else None
    if path[1] == "name":
        return section.default
    name = run.settings.get(f"{path[0]}.name", section.default)
    entry = section.registry[name] if section.registry else None
    defaults = entry.facts.as_of(run.settings.get("train.compat")).defaults if entry else {}
    field = section.fields.get(path[-1]) or (entry.fields.get(path[-1]) if entry else None)
    return defaults.get(path[-1], field.default if field else None)
