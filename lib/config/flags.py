"""Settings as words of a command line: flags, the types of their values, defaults and examples."""

import contextlib
import typing
from typing import Any

from ..core.contracts import FilePath, rule, split, unit_of
from ..core.errors import BadInput
from ..core.fields import Field
from ..core.registry import Entry
from .schema import SECTIONS
from .sources import layer_of


def flag(name: str) -> str:
    return name.replace("_", "-")


def option(section: str, entry: Entry, key: str) -> str:
    """The shortest flag of an entry's option."""
    if SECTIONS[section].is_tricks:
        return f"--{flag(entry.name)}-{flag(key)}"
    # Other sections may have an option of that name, other projects a flag; a model's has always a dot.
    with contextlib.suppress(BadInput):
        if [path for path, _ in layer_of([(key, entry.fields[key].default, key)], "help")] == [
            (section, key)
        ]:
            return f"--{flag(key)}"
    return f"--{section}.{flag(key)}"


def example(section: str, entry: Entry) -> list[str]:
    """The words of a command line with an entry, and its first option at its default."""
    words = ["--model", "resnet20"]
    if section == "model":
        words = ["--model", entry.name]
    elif SECTIONS[section].is_choice:
        words += [f"--{section}", entry.name]
    else:
        words += [f"--{flag(entry.name)}"]
    for field in list(entry.fields.values())[:1]:
        if field.type is not bool and field.default is not None:
            words += [option(section, entry, field.name), value_text(field.default)]
    return words


def row(words: str, field: Field) -> tuple[str, str]:
    """A flag with the type of its value; its help with the default and the bounds."""
    kind = type_name(field.type)
    limits = "" if unit_of(field.type) else rule(field.type)
    if kind.count("|") > 2:  # too wide for a column
        kind, limits = "NAME", f"one of {', '.join(kind.split('|'))}"
    return f"{words} {kind}".rstrip(), f"{field.help} ({value_text(field.default)}{limits and '; ' + limits})"


def type_name(kind: Any) -> str:
    if unit := unit_of(kind):
        return unit.name + (",..." if typing.get_origin(kind) is tuple else "")
    kind, _ = split(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "|".join(map(str, args))
    if origin is tuple:
        return f"{type_name(args[0])},..."
    if args:
        return type_name(args[0])
    return {bool: "", int: "INT", float: "NUMBER", str: "TEXT", FilePath: "PATH"}[kind]


def value_text(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple | list):
        return ",".join(map(value_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
