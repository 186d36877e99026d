"""What the rows of a table are called: by their folders, by what sets them apart, or by ticks.

A setting is all of a configuration but the seed. Its runs lie in a folder each, `<name>/seed<k>`.
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
    """A name for each setting, all different: its folder's if that is clear, else what sets it apart.

    Args:
        rows: the runs by setting.
    """
    folders = {setting: folder_name(runs) for setting, runs in rows.items()}
    seen = Counter(folders.values())
    apart = distinctions({setting: runs[0].settings for setting, runs in rows.items()})
    told = Counter(apart.values())
    names = {}
    for setting, folder in folders.items():
        if folder and seen[folder] == 1:
            names[setting] = folder
        else:
            # Equal for all that is written down: defaults have changed between two versions of the code.
            extra = f" ({setting})" if told[apart[setting]] > 1 else ""
            names[setting] = f"{apart[setting]}{extra}"
    taken = Counter(names.values())
    return {setting: name if taken[name] == 1 else f"{name} ({setting})" for setting, name in names.items()}


def folder_name(runs: Sequence[RunRecord]) -> str | None:
    """The one name of the folders of a setting's runs; None if they have several."""
    names = {own_name(run) for run in runs}
    return names.pop() if len(names) == 1 else None


def own_name(run: RunRecord) -> str:
    """The name of the folder that holds the seeds' folders, less the hash at its end."""
    folder = run.folder.resolve()
    name = folder.parent.name if folder.name.startswith("seed") else folder.name
    return name.removesuffix(f"-{run.setting}")


def distinctions(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each setting what not all of them share: `cutout, mixup.alpha=0.2`."""
    keys = {key for flat in settings.values() for key in flat}
    shared = {key for key in keys if len({repr(flat.get(key)) for flat in settings.values()}) == 1}
    return {
        setting: ", ".join(_told(key, value) for key, value in flat.items() if key not in shared) or "plain"
        for setting, flat in settings.items()
    }


def _told(key: str, value: Any) -> str:
    section, _, name = key.partition(".")
    if section in SECTIONS and SECTIONS[section].is_tricks:
        return name if value is True else f"no {name}" if value is False else f"{name}={value}"
    return f"{key}={value}"


def tick_columns(names: Sequence[str], rows: Mapping[str, Sequence[RunRecord]]) -> dict[str, dict[str, str]]:
    """For each setting a cell a name: a tick for a trick that is on, with its options where rows differ in
    them, and the value of any other setting.

    Raises:
        BadInput: a name is no setting's; the message holds the nearest.
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
                extra = (
                    " ".join(f"{key}={value}" for key, value in options[setting].items()) if differ else ""
                )
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
    """A setting's value: as changed, else the default, which may depend on what is chosen."""
    key = ".".join(path)
    if key in run.settings:
        return run.settings[key]
    section = SECTIONS[path[0]]
    if section.is_tricks:  # an option of a trick
        on = _is_on(path[:2], run)
        return section.registry[path[1]].fields[path[2]].default if on and path[2:] else None
    if path[1] == "name":
        return section.default
    entry = (
        section.registry[run.settings.get(f"{path[0]}.name", section.default)] if section.registry else None
    )
    defaults = entry.facts.as_of(run.settings.get("train.compat")).defaults if entry else {}
    field = section.fields.get(path[-1]) or (entry.fields.get(path[-1]) if entry else None)
    return defaults.get(path[-1], field.default if field else None)
