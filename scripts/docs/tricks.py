"""`python -m scripts.docs.tricks`: write docs/tricks.md, with its picture, from the registries.

Trying all pairs takes minutes; with `--keep-pairs` only those are tried that no earlier trial has. What a
step costs is read from docs/benchmarks.md, where `scripts.bench.tricks` has put it.
"""

import argparse
import re
from collections.abc import Iterable
from dataclasses import replace

from lib.config.help import value_text
from lib.config.schema import NOT_HASHED, SECTIONS, Section
from lib.config.spelling import path_of
from lib.core.errors import BadInput
from lib.core.fields import Field
from lib.core.files import write_atomic
from lib.core.registry import Entry
from scripts.bench import tricks as bench_tricks
from scripts.docs import tricks_pairs
from scripts.docs.augmentations import DOC as AUGMENTATIONS
from scripts.docs.augmentations import default_of, flag
from scripts.docs.schedules import EPOCHS, picture
from scripts.docs.tricks_pairs import TRIAL, Pairs
from scripts.trials import HOST, NO_TRICKS, section_of, tricks

DOC = AUGMENTATIONS.with_name("tricks.md")
PICTURE = DOC.with_suffix("") / "schedules.png"
APART = "augment"  # the section with a page of its own

Costs = dict[str, dict[str, str]]  # the ratio of a step to the bare one, by trick and model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep-pairs", action="store_true", help="try no pair a second time")
    known = tricks_pairs.load() if parser.parse_args().keep_pairs else None
    tricks_pairs.save(tricks_pairs.try_all(known))
    write_atomic(PICTURE, picture())
    write_atomic(DOC, page(tricks_pairs.load(), bench_tricks.written()))


def page(pairs: Pairs, costs: Costs) -> str:
    """docs/tricks.md: an index, a part for each section of the configuration, and what goes together."""
    sections = {
        name: section
        for name, section in SECTIONS.items()
        if (name not in NO_TRICKS or section.settings) and (name,) not in NOT_HASHED
    }
    lines = [HEAD, *index(sections)]
    for name, section in sections.items():
        lines += ["", f"## {title(section)}", ""]
        lines += augmentations(costs) if name == APART else part(name, section, costs)
    return "\n".join([*lines, "", *together(pairs), ""])


def title(section: Section) -> str:
    """What the section is, without how it is used."""
    text = re.split("[:,]", section.help)[0]
    return text[0].upper() + text[1:]


def entries_of(name: str) -> list[Entry]:
    """What the page tells of a section one by one; models and data sets have listings of their own."""
    registry = SECTIONS[name].registry
    return registry.entries() if registry and name not in NO_TRICKS else []


def index(sections: dict[str, Section]) -> list[str]:
    lines = ["| section | tricks |", "|---|---|"]
    for name, section in sections.items():
        anchor = "".join(c for c in title(section).lower() if c.isalnum() or c in " -").replace(" ", "-")
        linked = [
            plain(e.name) if name == APART or e.placeholders else f"[{e.name}](#{e.name})"
            for e in entries_of(name)
        ]
        fields = [f"`{key}`" for key in section.fields]
        lines.append(f"| [{title(section)}](#{anchor}), `{name}` | {', '.join([*linked, *fields])} |")
    return lines


def augmentations(costs: Costs) -> list[str]:
    """What a step with each of them costs; the rest has a page of its own."""
    lines = ["[The augmentations](augmentations.md) have a page with their flags and pictures.", ""]
    lines += ["| augmentation | stage | paper | a step, times the bare one |", "|---|---|---|---|"]
    for entry in entries_of(APART):
        stage, paper = entry.facts.stage.name.lower(), entry.facts.paper
        link = f"[{entry.name}](augmentations.md#{entry.name})"
        lines.append(f"| {link} | {stage} | {paper} | {cost(f'{APART}.{entry.name}', costs)} |")
    return lines


def part(name: str, section: Section, costs: Costs) -> list[str]:
    """A section's settings that hold whatever is chosen, and each of its entries."""
    lines = []
    if name in bench_tricks.UNTIMED:
        lines += [f"None costs a step more than the bare one: {bench_tricks.UNTIMED[name]}."]
    if name == "schedule":
        lines += ["", f"Over {EPOCHS} epochs, each at its defaults:", ""]
        lines += [f"![every schedule]({PICTURE.relative_to(DOC.parent)})"]
    if section.fields:
        whatever = "These hold whatever is chosen." if section.is_choice else "Settings:"
        lines += ["", whatever, *table(name, section.fields.values())]
        lines += measured(name, costs)
    for entry in entries_of(name):
        lines += ["", *told(name, entry, costs)]
    return lines[1:] if lines[:1] == [""] else lines


def measured(name: str, costs: Costs) -> list[str]:
    """What a step costs with the settings of a section that make it do more."""
    rows = {key: value for key, value in bench_tricks.SETTINGS.items() if section_of(key) == name}
    costing = [f"`{key} {value_text(value)}` {cost(key, costs)}" for key, value in rows.items()]
    return ["", f"A step, times the bare one: {'; '.join(costing)}."] if rows else []


def told(name: str, entry: Entry, costs: Costs) -> list[str]:
    """One entry: what it is, how it is switched on, its paper, what it costs, its fields."""
    on = "--{}" if SECTIONS[name].is_tricks else f"--{name} {{}}"
    facts = [f"`{on.format(flag(entry.name))}`"]
    also = ", ".join(f"`{on.format(flag(alias))}`" for alias in entry.aliases)
    facts += [f"also {also}"] if also else []
    # What a partial has bound is no field: it is what the name stands for.
    bound = getattr(SECTIONS[name].registry.function(entry.form), "keywords", {})
    facts += [f"that is, `{key}` {value_text(value)}" for key, value in bound.items()]
    facts += [f"paper: {entry.facts.paper}"] if entry.facts.paper else []
    if name not in bench_tricks.UNTIMED:
        facts.append(f"a step: {cost(f'{name}.{entry.name}', costs)}")
    owner = f"{name}.{entry.name}" if SECTIONS[name].is_tricks else name
    fields = [replace(f, default=default_of(entry, f)) for f in entry.fields.values()]
    # A fact may be the default of a setting that its section always has, as warm-up is.
    own = [
        replace(f, default=entry.facts.defaults[key])
        for key, f in SECTIONS[name].fields.items()
        if key in entry.facts.defaults
    ]
    rows = table(owner, [*fields, *own])
    return [f"### {plain(entry.name)}", "", entry.about, "", " · ".join(facts), *rows]


def cost(trick: str, costs: Costs) -> str:
    """A trick's step over the bare one, on each model that it was measured on."""
    if trick in costs:
        return ", ".join(f"{ratio} on {model}" for model, ratio in costs[trick].items())
    bare = trick in tricks() and bench_tricks.in_bare_step(tricks()[trick])
    return "the bare one" if costs and bare else "not measured"


def table(owner: str, fields: Iterable[Field]) -> list[str]:
    rows = [
        f"| `--{flag(spelling(owner, f))}` | {plain(value_text(f.default))} | {f.help.replace('|', '/')} |"
        for f in fields
    ]
    return ["", "| setting | default | |", "|---|---|---|", *rows] if rows else []


def spelling(owner: str, field: Field) -> str:
    """The shortest key of a field: `cutout_size`, `lr`; in full where that may mean several things."""
    full = f"{owner}.{field.name}"
    for key in (field.name, f"{owner.rpartition('.')[2]}_{field.name}"):
        try:
            if ".".join(path_of(key)) == full:
                return key
        except BadInput:
            pass
    return full


def plain(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


def together(pairs: Pairs) -> list[str]:
    """How many pairs of tricks train, and which are refused."""
    choices = [name for name in dict.fromkeys(map(section_of, pairs.tried)) if SECTIONS[name].is_choice]
    host = " ".join(f"--{flag(key)} {value_text(value)}" for key, value in HOST.items())
    side, works = TRIAL["data.image_size"], len(pairs.pairs) - len(pairs.refused)
    lines = [
        TOGETHER.format(
            tricks=len(pairs.tried), works=f"{works:,}", pairs=f"{len(pairs.pairs):,}",
            refused=len(pairs.refused), choices=", ".join(f"`{name}`" for name in choices),
            host=host.replace("--model.name", "--model"), side=side,
        ),
        "| one | other | why they are refused together |",
        "|---|---|---|",
    ]  # fmt: skip
    lines += [f"| `{one}` | `{other}` | {plain(reason)} |" for one, other, reason in pairs.refused]
    if pairs.alone:
        lines += [SINGLE, *(f"- `{trick}`: {plain(reason)}" for trick, reason in pairs.alone.items())]
    return lines


HEAD = """# The tricks

Made by `python -m scripts.docs.tricks` from the registries: what each trick does, its paper, its flags with
their defaults, what a step with it costs, and what it cannot be combined with. `--sam` switches a trick on
with its defaults, `--sam 0.1` sets its first field, `--sam-rho 0.1` any field; of optimizers, losses and
schedules one is chosen by its name, `--optim adamw --lr 1e-3`. `-` and `_` are the same. What a step costs is
its time over that of a bare step, from [the benchmarks](benchmarks.md).
"""

TOGETHER = """## What goes together

Each of the {tricks} tricks of this page, augmentations included, was switched on beside each of the others,
and the run was built and trained for a step, on images of {side}x{side} with
`{host}`.
Of {pairs} pairs {works} train; {refused} are refused before the first step, with the reason below. Of
{choices} one is chosen, so two of a kind are no pair; of several mixes
[one is drawn for each batch](augmentations.md#one-mix-a-batch). Another model may refuse a trick by itself
that it has no place for, and says so.
"""

SINGLE = """
These were refused by that model even alone, and are in no pair:
"""


if __name__ == "__main__":
    main()
