"""Text output: --help, --list and run summaries. Imports no torch, so it starts quickly."""

import json
import re
import shutil
import textwrap
import typing
from pathlib import Path
from typing import Any

from ..core.contracts import EPOCH, TIME, FilePath, rule, split, unit_of
from ..core.errors import BadInput, nearest
from ..core.fields import Field
from ..core.registry import PROGRAM, REGISTRIES, Entry, Registry, augmentations, models
from .schema import SECTIONS, Config

# Multiply-accumulates by model, measured by `python -m scripts.docs.models`.
MACS = Path(__file__).parents[1] / "models" / "macs.json"
# Kinds that --list shows; a prefix is enough: model, augment, optim, data...
KINDS = {
    re.sub("y$", "ie", kind) + ("es" if kind.endswith("s") else "s"): registry
    for kind, registry in REGISTRIES.items()
}

USAGE = """\
usage: {program} [--config FILE[,FILE...]] [--SETTING VALUE | SECTION.SETTING=VALUE]...

  {program} --model resnet20 --cutout          enable a trick; also --cutout True
  {program} --model resnet20 --cutout 8        set its first option; also --cutout-size 8,
                                                     augment.cutout.size=8 and augment.cutout.size 8
  {program} --model resnet20 --no-flip         disable it
  {program} --config configs/quickstart.yaml   read settings from a file; the command line overrides it

  --list KIND [PATTERN] [SIZE]   list registered names of a kind: {kinds};
                                 --list models 'wrn*' '<10M'
  --seeds 0..9                   train one run per seed (also 0,1,5), several at a time on one device;
                                 --jobs N: how many; default: as many as cores, and as fit on a GPU
  --evaluate RUN                 evaluate the models in a run folder: accuracy, calibration, per-class
                                 results; with test-time views, --evaluate.corruptions, --device, --root...
  --evaluate RUN --on SET,...    on other data sets too: accuracy, or how well confidence separates them
  --summary                      show the model layer by layer
  --dry-run                      show the resolved configuration, model size and schedule without training
  --help                         show this text; with --model NAME the options of that model

TIME: {TIME.about}. EPOCH: {EPOCH.about}.
In option names, - and _ are interchangeable."""


def help_text(config: Config) -> str:
    """Every setting, by section."""
    lines = [USAGE.format(kinds=", ".join(KINDS), TIME=TIME, EPOCH=EPOCH, program=PROGRAM)]
    for name, section in SECTIONS.items():
        lines += ["", f"{name}: {section.help}"]
        if section.is_choice:
            lines += _row(
                f"--{name} NAME", f"{_choices(section.registry)} ({config.chosen[name].entry.name})"
            )
        for field in section.fields.values():
            lines += _field_rows("--", field)
        if section.is_tricks:
            for entry in section.registry.entries():
                lines += _row(f"--{_flag(entry.name)}", entry.about)
                for field in entry.fields.values():
                    lines += _field_rows(f"  --{_flag(entry.name)}-", field)
        elif section.is_choice:
            # The options of all models would fill pages.
            chosen = [config.chosen[name].entry] if name in ("model", "data") else section.registry.entries()
            for entry in chosen:
                lines += _option_rows(name, entry)
    return "\n".join(lines)


def _choices(registry: Registry) -> str:
    names = [entry.name for entry in registry.entries()]
    return ", ".join(names) if len(names) <= 16 else f"one of {len(names)}: see --list {registry.kind}"


def _option_rows(section: str, entry: Entry) -> list[str]:
    """The options of an entry of a section that selects one."""
    rows = [row for field in entry.fields.values() for row in _field_rows(f"  --{section}.", field)]
    return [f"  with {entry.name}:", *rows] if rows else []


def _field_rows(prefix: str, field: Field) -> list[str]:
    flag = f"{prefix}{_flag(field.name)} {_type_name(field.type)}"
    limits = "" if unit_of(field.type) else rule(field.type)
    return _row(flag, f"{field.help} ({value_text(field.default)}{limits and '; ' + limits})")


def _row(left: str, text: str) -> list[str]:
    """A flag with its help in a second column, wrapped to the width of the terminal."""
    width = max(shutil.get_terminal_size((110, 0)).columns, 90)
    lines = textwrap.wrap(text, width - 48, break_on_hyphens=False) or [""]
    return [f"  {left if i == 0 else '':<44}  {line}".rstrip() for i, line in enumerate(lines)]


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _type_name(kind: Any) -> str:
    if unit := unit_of(kind):
        return unit.name + (",..." if typing.get_origin(kind) is tuple else "")
    kind, _ = split(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "|".join(map(str, args))
    if origin is tuple:
        return f"{_type_name(args[0])},..."
    if args:
        return _type_name(args[0])
    return {bool: "", int: "INT", float: "NUMBER", str: "TEXT", FilePath: "PATH"}[kind]


def value_text(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(value_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def listing(kind: str = "models", *filters: str) -> str:
    """The entries of a kind: name, size, settings and paper.

    Args:
        filters: patterns of names, one of which must match, and for models sizes: `<5M`, `>500k` parameters.
    Raises:
        BadInput: there is no such kind, or nothing matches.
    """
    found = [name for name, known in KINDS.items() if name.startswith(kind) or known.kind.startswith(kind)]
    if not found:
        raise BadInput(f"--list {kind}: {nearest(kind, KINDS) or 'the kinds are ' + ', '.join(KINDS)}")
    sizes = [word for word in filters if word[:1] in ("<", ">")]
    patterns = [word for word in filters if word not in sizes] or ["*"]
    registry = KINDS[found[0]]
    entries = _matching(registry, patterns) or _matching(registry, [f"*{p}*" for p in patterns])
    entries = [entry for entry in entries if all(_has_size(entry, size) for size in sizes)]
    if not entries:
        what = " ".join([kind, *filters])
        raise BadInput(f"--list {what}: nothing matches; {PROGRAM} --list {kind} shows all")
    columns = {"name": _names}
    if registry is models:
        macs = json.loads(MACS.read_text())
        columns["parameters"] = lambda entry: count_text(entry.facts.params)
        columns["MACs"] = lambda entry: macs_text(macs.get(entry.name))
    if registry is augmentations:
        entries.sort(key=lambda entry: entry.facts.stage)  # then by name, as they were
        columns["stage"] = lambda entry: entry.facts.stage.name.lower()
    columns["settings"] = lambda entry: " ".join(entry.fields)
    columns["paper"] = lambda entry: entry.facts.paper or entry.about
    table = [tuple(columns), *(tuple(cell(entry) for cell in columns.values()) for entry in entries)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def _matching(registry: Registry, patterns: list[str]) -> list[Entry]:
    names = {entry.name for pattern in patterns for entry in registry.entries(pattern)}
    return [entry for entry in registry.entries() if entry.name in names]


def _has_size(entry: Entry, size: str) -> bool:
    """Whether a model has fewer (`<5M`) or more (`>500k`) parameters; never if its size is unknown."""
    try:
        limit = float(size[1:].rstrip("kKmMgG")) * {"k": 1e3, "m": 1e6, "g": 1e9}.get(size[-1].lower(), 1)
    except ValueError:
        raise BadInput(f"--list: {size!r} is no size; write <5M or >500k") from None
    params = entry.facts.params
    return params is not None and (params < limit if size[0] == "<" else params > limit)


def _names(entry: Entry) -> str:
    return ", ".join([entry.name, *entry.aliases])


def count_text(params: int | float | None) -> str:
    """An exact count, or the rounded one of the paper."""
    if params is None:
        return ""
    return f"{params:,}" if isinstance(params, int) else f"~{params / 1e6:.1f} M"


def macs_text(macs: int | None) -> str:
    return f"{macs / 1e6:,.1f} M" if macs is not None else ""


def outcome(result: dict[str, Any], folder: Path) -> str:
    """Result of a run, and where its record is."""
    if result["status"] == "diverged":
        where = f"at step {result['step']} with learning rate {result['lr']:.6g}"
        return f"diverged: loss {result['loss']} {where}\nrun folder: {folder}"
    columns = [key for key in result if key.endswith("_accuracy")]
    best, seconds = result["best"], result["seconds"]
    parts = [f"{part} {seconds[part]:.1f} s" for part in ("data", "select") if part in seconds]
    # Records of earlier versions lack it.
    start = f"start {seconds['start']:.1f} s, " if "start" in seconds else ""
    return "\n".join(
        [
            "  ".join(
                f"{key.removesuffix('_accuracy').replace('_', ' ')} accuracy {result[key]:.2f} %"
                for key in columns
            )
            + f"  (last epoch; best {best['split']} {best['accuracy']:.2f} % in epoch {best['epoch']})",
            f"time: {start}train {seconds['train']:.1f} s (of which {', '.join(parts)}), "
            f"evaluate {seconds['evaluate']:.1f} s; {result['images_per_second']:,.0f} images/s, "
            f"peak memory {result['peak_memory_mb']:,.0f} MB",
            f"run folder: {folder}",
            f"curves: {folder / 'curves.png'}",
        ]
    )
