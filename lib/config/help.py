"""The output of --help: what most people set, and every trick in a line. Imports no torch, so it starts
quickly.
"""

import re
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from ..core.console import heading, render, rows
from ..core.contracts import EPOCH, TIME
from ..core.registry import PROGRAM, Entry
from .flags import flag, type_name, value_text
from .schema import SECTIONS, Config
from .spelling import path_of
from .topics import COMMANDS, command_row, section_topic, topic

# What most people set, as they spell it.
USUAL = (
    "model", "dataset", "root", "epochs", "batch_size", "lr", "optim", "schedule", "warmup", "weight_decay",
    "loss", "val", "seed", "precision", "compile", "device", "output_dir",
)  # fmt: skip

HEAD = f"""\
usage: {PROGRAM} [--config FILE,...] [--SETTING VALUE]...

  {PROGRAM} --model resnet20 --cutout      enable a trick
  {PROGRAM} --model resnet20 --cutout 8    also --cutout-size 8
  {PROGRAM} augment.cutout.size=8          the same as a key
  {PROGRAM} --model resnet20 --no-flip     disable a trick"""
UNITS = (
    f"{TIME.name}: {TIME.about}. {EPOCH.name}: {EPOCH.about}. "
    "In the names of options, - and _ are interchangeable."
)
MORE = (
    "--help TOPIC shows all of a trick, model, setting or section, such as --help cutout, "
    "--help wrn_28_10, --help lr, --help optim; --help all shows everything."
)


def help_text(topics: Sequence[str], config: Config) -> str:
    """The overview, or all about each of the topics; `all` is the overview and every section.

    Args:
        config: its values are shown as those by default.
    Raises:
        BadInput: a topic is not known; the message suggests the nearest ones.
    """
    if not topics:
        return render(*_overview(config))
    if "all" in topics:
        return render(
            *_overview(config), *(part for name in SECTIONS for part in section_topic(name, config))
        )
    return render(*(part for name in topics for part in topic(name, config)))


def _overview(config: Config) -> Iterator[RenderableType]:
    yield Text(HEAD)
    yield heading("What most people set, with the values that it has by default")
    yield rows([_setting_row(key, config) for key in USUAL], short=True)
    yield heading("Commands")
    yield rows([command_row(name) for name in COMMANDS], short=True)
    for name, section in SECTIONS.items():
        if section.is_tricks:
            on, tricks = config.tricks[name], section.registry.entries()
            yield heading(f"{name}: {section.help}{'; *: on by default' if on else ''}")
            flags = [f"--{flag(entry.name)}{' *' if entry.name in on else ''}" for entry in tricks]
            yield rows(zip(flags, map(_brief, tricks), strict=True), short=True)
    others = [name for name, section in SECTIONS.items() if not section.is_tricks]
    yield Text(f"\n{MORE} The other sections: {', '.join(others)}.\n{UNITS}")


def _setting_row(key: str, config: Config) -> tuple[str, str]:
    """A setting, or the choice of a section, with its value in the configuration."""
    section, name = path_of(key)
    if name == "name":
        kind, chosen = SECTIONS[section].registry.kind, config.chosen[section].entry.name
        return f"--{flag(key)} {chosen}", f"{SECTIONS[section].help}; --list {kind} shows all"
    if field := SECTIONS[section].fields.get(name):
        value = getattr(config.settings[section], name)
    else:
        choice = config.chosen[section]
        field, value = choice.entry.fields[name], choice.options[name]
    shown = type_name(field.type) if value is None or value is False else value_text(value)
    return f"--{flag(key)} {shown}".rstrip(), field.help


def _brief(entry: Entry) -> str:
    """What an entry does, without the citation."""
    return re.sub(r" \([^()]*\d{4}[^()]*\)", "", entry.about)
