"""What the program tells of itself: help and listings. No torch here: they answer at once."""

import typing
from typing import Any

from lib.config import SECTIONS, Config
from lib.errors import BadInput, nearest
from lib.fields import Field
from lib.registry import Registry

USAGE = """\
usage: python train.py [--config FILE[,FILE...]] [--SETTING VALUE | SECTION.SETTING=VALUE]...

  python train.py --model resnet20 --cutout          a trick is on with its defaults: also --cutout True
  python train.py --model resnet20 --cutout 8        its first setting: also --cutout-size 8,
                                                     augment.cutout.size=8 and augment.cutout.size 8
  python train.py --model resnet20 --no-flip         off
  python train.py --config configs/quickstart.yaml   settings from a file; the command line overrides them

  --list KIND [PATTERN]   what is registered: {kinds}
  --summary               the model, layer by layer
  --dry-run               the whole configuration and what it amounts to, without training
  --help                  this text; with --model, --optim... it shows the settings of what is chosen

In names of settings - and _ are the same."""


def help_text(config: Config) -> str:
    """Every setting, by section."""
    lines = [USAGE.format(kinds=", ".join(KINDS))]
    for name, section in SECTIONS.items():
        lines += ["", f"{name}: {section.help}"]
        if section.is_choice:
            chosen = config.chosen[name].entry.name
            lines.append(_row(f"--{name} NAME", _choices(section.registry), chosen))
        for field in section.fields.values():
            lines.append(_field_row(f"--{_flag(field.name)}", field))
        if section.is_tricks:
            for entry in section.registry.entries():
                lines.append(_row(f"--{_flag(entry.name)}", entry.about))
                for field in entry.fields.values():
                    lines.append(_field_row(f"  --{_flag(entry.name)}-{_flag(field.name)}", field))
        elif section.is_choice and name in ("model", "data"):
            lines += _option_rows(name, config.chosen[name].entry)
        elif section.is_choice:
            for entry in section.registry.entries():
                lines += _option_rows(name, entry)
    return "\n".join(lines)


def _option_rows(section: str, entry) -> list[str]:
    """The settings that an entry has when it is chosen."""
    if not entry.fields:
        return []
    rows = [_field_row(f"  --{section}.{_flag(field.name)}", field) for field in entry.fields.values()]
    return [f"  with {entry.name}:", *rows]


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _field_row(flag: str, field: Field) -> str:
    return _row(f"{flag} {_type_name(field.type)}", field.help, field.default)


def _row(left: str, text: str, default: Any = "") -> str:
    shown = f"({_value_text(default)})" if default != "" else ""
    return f"  {left:<44} {text} {shown}".rstrip()


def _value_text(value: Any) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else str(value).lower()
        if value in (None, True, False)
        else str(value)
    )


def _type_name(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "|".join(map(str, args))
    if origin is tuple:
        return f"{_type_name(args[0])},..."
    if args:
        return _type_name(args[0])
    return {bool: "", int: "INT", float: "NUMBER", str: "TEXT"}[kind]


def _choices(registry: Registry) -> str:
    names = [entry.name for entry in registry.entries()]
    return ", ".join(names) if len(names) <= 16 else f"one of {len(names)}: see --list {_kind_of(registry)}"


KINDS: dict[str, Registry] = {
    "models": SECTIONS["model"].registry,
    "augment": SECTIONS["augment"].registry,
    "optim": SECTIONS["optim"].registry,
    "wrap": SECTIONS["wrap"].registry,
    "schedules": SECTIONS["schedule"].registry,
    "losses": SECTIONS["loss"].registry,
    "averages": SECTIONS["average"].registry,
    "datasets": SECTIONS["data"].registry,
}


def _kind_of(registry: Registry) -> str:
    return next(kind for kind, known in KINDS.items() if known is registry)


def listing(kind: str, pattern: str) -> str:
    """The entries of a kind whose name or alias matches: name, facts, paper and settings."""
    if kind not in KINDS:
        known = {f"{registry.kind}": name for name, registry in KINDS.items()} | {
            name: name for name in KINDS
        }
        singular = {name.rstrip("s"): name for name in KINDS} | known
        if kind not in singular:
            raise BadInput(f"--list {kind}: {nearest(kind, KINDS) or 'the kinds are ' + ', '.join(KINDS)}")
        kind = singular[kind]
    entries = KINDS[kind].entries(pattern)
    if not entries and not any(c in pattern for c in "*?["):
        entries = KINDS[kind].entries(f"*{pattern}*")
    if not entries:
        raise BadInput(f"--list {kind} {pattern}: nothing matches; python train.py --list {kind} shows all")
    head, rows = ("name", "settings", "paper"), []
    for entry in entries:
        name = ", ".join([entry.name, *entry.aliases])
        rows.append((name, " ".join(entry.fields), entry.facts.get("paper", entry.about)))
    if kind == "models":
        head = ("name", "parameters", "settings", "paper")
        rows = [
            (row[0], _count(e.facts.get("params")), *row[1:]) for e, row in zip(entries, rows, strict=True)
        ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
    return "\n".join(lines)


def _count(params: int | float | None) -> str:
    """An exact count, or the paper's rounded one."""
    if params is None:
        return ""
    return f"{params:,}" if isinstance(params, int) else f"~{params / 1e6:.1f} M"
