"""The output of --list: the entries of a kind. Imports no torch, so it starts quickly."""

import json
import re
from pathlib import Path

from rich.table import Column, Table

from ..core.console import render
from ..core.errors import BadInput, nearest
from ..core.registry import PROGRAM, REGISTRIES, Entry, Registry, augmentations, models

# Multiply-accumulates by model, measured by `python -m scripts.docs.models`.
MACS = Path(__file__).parents[1] / "models" / "macs.json"
# Kinds that --list shows; a prefix is enough: model, augment, optim, data...
KINDS = {
    re.sub("y$", "ie", kind) + ("es" if kind.endswith("s") else "s"): registry
    for kind, registry in REGISTRIES.items()
}
COUNTS = ("parameters", "MACs")  # columns that are never wrapped


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
    table = Table(
        *(Column(name, overflow="fold", no_wrap=name in COUNTS) for name in columns),
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for entry in entries:
        table.add_row(*(cell(entry) for cell in columns.values()))
    return render(table, one_line_per_row=True)


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
