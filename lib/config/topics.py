"""The topics of --help: a section, an entry of a registry, a setting or a command, shown whole."""

import json
from collections.abc import Iterator

from rich.columns import Columns
from rich.console import RenderableType
from rich.text import Text

from ..core.console import heading, indented, rows
from ..core.errors import BadInput, nearest
from ..core.fields import Field
from ..core.registry import PROGRAM, Entry, folded, models
from .compose import Path
from .flags import example, flag, option, row
from .listing import KINDS, MACS, count_text, macs_text
from .schema import SECTIONS, Config, Section
from .spelling import path_of, spellings

# What is no setting of a run. Also topics of --help.
COMMANDS = {
    "config": ("FILE,...", "read settings from YAML files; the command line overrides them"),
    "list": (
        "KIND [PATTERN] [SIZE]",
        f"list names: {', '.join(KINDS)}; as in --list models 'wrn*' '<10M'",
    ),
    "summary": ("", "show the model layer by layer"),
    "dry_run": ("", "show the resolved configuration, model size and schedule without training"),
    "seeds": ("0..9", "train one run per seed (also 0,1,5), several at a time on one device"),
    "jobs": ("N", "how many of the seeds at a time; default: as many as cores, and as fit on a GPU"),
    "evaluate": (
        "RUN",
        "evaluate the models in a run folder: accuracy, calibration, per-class results; with test-time "
        "views, --evaluate.corruptions, --device, --root...",
    ),
    "on": (
        "SET,...",
        "with --evaluate: other data sets, as accuracy or by how well confidence separates them",
    ),
    "help": ("[TOPIC]", "show this text; or a trick, model, section or setting; all: everything"),
}


def topic(name: str, config: Config) -> Iterator[RenderableType]:
    """Everything of that name: a command, a section, entries of registries, else a setting.

    Raises:
        BadInput: there is nothing of that name; the message suggests the nearest ones.
    """
    key, found = folded(name.removeprefix("--")), False
    if key in COMMANDS:
        found = True
        yield rows([command_row(key)])
    if key in SECTIONS:
        found = True
        yield from section_topic(key, config)
    for section_name, section in SECTIONS.items():
        named = key.removeprefix(f"{section_name}.")
        if section.registry and named in section.registry:
            found = True
            yield from _entry(section_name, section.registry[named], config)
    if found:
        return
    try:
        path = path_of(key)
    except BadInput:
        raise BadInput(f"--help {name}: nothing is called so; {_hint(name)}") from None
    if path[1:] == ("name",):
        yield from section_topic(path[0], config)
    else:
        yield from _setting(path)


def _hint(name: str) -> str:
    registries = [section.registry for section in SECTIONS.values() if section.registry]
    names = [entry.name for registry in registries for entry in registry.entries()]
    return nearest(name, [*SECTIONS, *COMMANDS, *names, *spellings()]) or f"see {PROGRAM} --help"


def command_row(name: str) -> tuple[str, str]:
    words, text = COMMANDS[name]
    return f"--{flag(name)} {words}".rstrip(), text


def section_topic(name: str, config: Config) -> Iterator[RenderableType]:
    """A section's settings and all its entries; of models, which are many, the names."""
    section = SECTIONS[name]
    yield heading(f"{name}: {section.help}")
    if section.is_choice:
        yield rows([(f"--{name} NAME", f"{section.registry.kind} ({config.chosen[name].entry.name})")])
    yield rows([row(f"--{flag(key)}", field) for key, field in section.fields.items()])
    if section.registry is models:
        names = [entry.name for entry in models.entries()]
        yield indented(Columns(names, column_first=True, padding=(0, 2)))
        yield Text(f"  --help NAME shows the options of a model, such as --help {names[0]}.")
    elif section.registry:
        yield from _entries(name, config)


def _entries(section: str, config: Config) -> Iterator[RenderableType]:
    """The entries of a section with their options; those that all tricks have are shown once."""
    entries, tricks = SECTIONS[section].registry.entries(), config.tricks.get(section)
    common = _common(SECTIONS[section])
    if common:
        yield Text("  options of all of them:")
        yield indented(rows([row(f"--NAME-{flag(field.name)}", field) for field in common]))
    for entry in entries:
        words = f"--{section} {entry.name}" if tricks is None else f"--{flag(entry.name)}"
        mark = " (on by default)" if tricks and entry.name in tricks else ""
        yield indented(Text(f"{words}{mark}: {entry.about}"))
        own = [field for field in entry.fields.values() if field not in common]
        yield indented(rows([row(option(section, entry, field.name), field) for field in own]))


def _common(section: Section) -> list[Field]:
    """The options that all tricks of a section share, such as the epochs in which they are applied."""
    entries = section.registry.entries() if section.is_tricks else []
    first, *others = entries or [None]
    return [f for f in first.fields.values() if all(f in e.fields.values() for e in others)] if others else []


def _entry(section: str, entry: Entry, config: Config) -> Iterator[RenderableType]:
    """One entry: what it is, its options, its facts and an example."""
    kind, tricks = entry.kind, SECTIONS[section].is_tricks
    if tricks:
        state = "on" if entry.name in config.tricks[section] else "off"
        kind += f", {state} by default"
    yield heading(f"{entry.name} ({kind})")
    yield Text(f"{entry.about}\n")
    yield rows([row(option(section, entry, field.name), field) for field in entry.fields.values()])
    if entry.fields:
        yield Text()
    facts = {"also called": ", ".join(entry.aliases), "paper": entry.facts.paper} | _facts(section, entry)
    if not entry.placeholders:
        facts["example"] = f"{PROGRAM} {' '.join(example(section, entry))}"
        facts["in YAML"] = f"{section}: {{{entry.name}: true}}" if tricks else f"{section}: {entry.name}"
    facts["source"] = entry.module.replace(".", "/") + ".py"
    yield rows([(name, text) for name, text in facts.items() if text])


def _facts(section: str, entry: Entry) -> dict[str, str]:
    facts = entry.facts
    match section:
        case "model":
            macs = json.loads(MACS.read_text()).get(entry.name)
            return {"parameters": count_text(facts.params), "MACs": macs and f"{macs_text(macs)} an image"}
        case "data":
            sizes = [f"{n:,} {part}" for part, n in (("train", facts.train), ("test", facts.test)) if n]
            classes = f"{len(facts.classes)}" if facts.classes else ""
            return {"images": ", ".join(sizes), "classes": classes}
        case "augment":
            return {"stage": facts.stage.name.lower()}
    return {}


def _setting(path: Path) -> Iterator[RenderableType]:
    """A setting of a section, or of each of its entries that has it."""
    name, *trick, key = path
    section = SECTIONS[name]
    yield heading(f"{'.'.join(path)}: a setting of {trick[0] if trick else name}")
    if key in section.fields:
        yield rows([row(f"--{flag(key)}", section.fields[key])])
    known = section.registry.entries() if section.registry else []
    entries = [entry for entry in known if key in entry.fields and entry.name in (trick or [entry.name])]
    if entries:
        words = [row(option(name, entry, key), entry.fields[key]) for entry in entries]
        yield rows([words[0]] if len(entries) == 1 else [(words[0][0], "by the " + section.registry.kind)])
        if len(entries) > 1:
            yield indented(rows([(e.name, text) for e, (_, text) in zip(entries, words, strict=True)]))
    yield Text(f"  as a key: {'.'.join(path)}=VALUE; all of {path[-2]}: --help {path[-2]}")
