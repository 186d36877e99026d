"""docs/tricks.md, its figure and the outcome of trying all pairs of tricks, from the registries.

The cost of a step is read from docs/benchmarks.md, where `scripts.bench.tricks` has written it.
"""

import re
import textwrap
from collections.abc import Iterable
from dataclasses import replace

from lib.config.flags import value_text
from lib.config.schema import NOT_HASHED, SECTIONS, Section
from lib.config.spelling import path_of
from lib.core.errors import BadInput
from lib.core.fields import Field
from lib.core.registry import Entry, schedules
from lib.optim.optimizers import timm_names
from scripts.bench import tricks as bench_tricks
from scripts.docs import pairs as trick_pairs
from scripts.docs.augmentations import DOC as AUGMENTATIONS
from scripts.docs.augmentations import default_of, flag
from scripts.docs.page import Files
from scripts.docs.pairs import TRIAL, Pairs
from scripts.docs.schedule_figure import EPOCHS, picture, shown
from scripts.docs.trials import HOST, NO_TRICKS, section_of, tricks

DOC = AUGMENTATIONS.with_name("tricks.md")
PICTURE = DOC.with_suffix("") / "schedules.png"
SEPARATE = "augment"  # the section that has another page

Costs = dict[str, dict[str, str]]  # the ratio of a step to the bare one, by trick and model

CLOCKS = """\
After a warm-up of w in a budget of T epochs, the schedule gets at time t, by `--warmup-clock`:

- `rest`: t - w of T - w. It spans the rest of the budget, as with torch's SequentialLR.
- `shared`: t of T. Its points in time are those of the whole run, as with timm's `warmup_prefix=False`.
- `delayed`: t - w of T. It starts late and is cut off, as with timm's `warmup_prefix=True`."""


def files(everything: bool) -> Files:
    """The page, its figure and the pairs; with `everything`, all pairs are tried again."""
    known = None if everything or not trick_pairs.FILE.exists() else trick_pairs.load()
    pairs = trick_pairs.try_all(known)
    content = {DOC: page(pairs, bench_tricks.written()), trick_pairs.FILE: trick_pairs.dump(pairs)}
    if everything or not PICTURE.exists() or shown(PICTURE) != schedules.names():
        content[PICTURE] = picture()
    return content


def page(pairs: Pairs, costs: Costs) -> str:
    """docs/tricks.md: an index, a part for each section of the configuration, and the refused pairs."""
    sections = {
        name: section
        for name, section in SECTIONS.items()
        if (name not in NO_TRICKS or section.settings) and (name,) not in NOT_HASHED
    }
    lines = [HEAD, *index(sections)]
    for name, section in sections.items():
        lines += ["", f"## {title(section)}", ""]
        lines += augmentations(costs) if name == SEPARATE else part(name, section, costs)
    return "\n".join([*lines, "", *together(pairs), ""])


def title(section: Section) -> str:
    """The first words of the section's description."""
    text = re.split("[:,]", section.help)[0]
    return text[0].upper() + text[1:]


def entries_of(name: str) -> list[Entry]:
    """The entries of a section that the page describes; models and data sets have other listings."""
    registry = SECTIONS[name].registry
    return registry.entries() if registry and name not in NO_TRICKS else []


def index(sections: dict[str, Section]) -> list[str]:
    lines = ["| section | tricks |", "|---|---|"]
    for name, section in sections.items():
        anchor = "".join(c for c in title(section).lower() if c.isalnum() or c in " -").replace(" ", "-")
        linked = [
            plain(e.name) if name == SEPARATE or e.placeholders else f"[{e.name}](#{e.name})"
            for e in entries_of(name)
        ]
        fields = [f"`{key}`" for key in section.fields]
        lines.append(f"| [{title(section)}](#{anchor}), `{name}` | {', '.join([*linked, *fields])} |")
    return lines


def augmentations(costs: Costs) -> list[str]:
    """The cost of a step with each augmentation; their settings are on another page."""
    lines = ["[Augmentations](augmentations.md) shows their flags and figures.", ""]
    lines += ["| augmentation | stage | paper | step time over the bare step |", "|---|---|---|---|"]
    for entry in entries_of(SEPARATE):
        stage, paper = entry.facts.stage.name.lower(), entry.facts.paper
        link = f"[{entry.name}](augmentations.md#{entry.name})"
        lines.append(f"| {link} | {stage} | {paper} | {cost(f'{SEPARATE}.{entry.name}', costs)} |")
    return lines


def part(name: str, section: Section, costs: Costs) -> list[str]:
    """The settings of a section and each of its entries."""
    lines = []
    if name in bench_tricks.UNTIMED:
        lines += [f"None of them changes the time of a step: {bench_tricks.UNTIMED[name]}."]
    if name == "schedule":
        lines += ["", f"At their defaults, over {EPOCHS} epochs:", ""]
        lines += [f"![every schedule]({PICTURE.relative_to(DOC.parent)})", "", CLOCKS]
    if section.fields:
        whatever = "Settings that do not depend on the choice:" if section.is_choice else "Settings:"
        lines += ["", whatever, *table(name, section.fields.values())]
        lines += measured(name, costs)
    for entry in entries_of(name):
        lines += ["", *described(name, entry, costs)]
    return lines[1:] if lines[:1] == [""] else lines


def measured(name: str, costs: Costs) -> list[str]:
    """The cost of a step with the settings of a section that add work to it."""
    rows = {key: value for key, value in bench_tricks.SETTINGS.items() if section_of(key) == name}
    costing = [f"`{key} {value_text(value)}` {cost(key, costs)}" for key, value in rows.items()]
    return ["", f"Step time over the bare step: {'; '.join(costing)}."] if rows else []


def described(name: str, entry: Entry, costs: Costs) -> list[str]:
    """One entry: description, flag, paper, cost and fields."""
    on = "--{}" if SECTIONS[name].is_tricks else f"--{name} {{}}"
    facts = [f"`{on.format(flag(entry.name))}`"]
    also = ", ".join(f"`{on.format(flag(alias))}`" for alias in entry.aliases)
    facts += [f"also {also}"] if also else []
    # Arguments that a partial has bound are what the name stands for.
    bound = getattr(SECTIONS[name].registry.function(entry.form), "keywords", {})
    facts += [f"that is, `{key}` {value_text(value)}" for key, value in bound.items()]
    facts += [f"paper: {entry.facts.paper}"] if entry.facts.paper else []
    if name not in bench_tricks.UNTIMED:
        facts.append(f"step time: {cost(f'{name}.{entry.name}', costs)}")
    owner = f"{name}.{entry.name}" if SECTIONS[name].is_tricks else name
    fields = [replace(f, default=default_of(entry, f)) for f in entry.fields.values()]
    # An entry may have another default for a setting of its section, such as the warm-up.
    own = [
        replace(f, default=entry.facts.defaults[key])
        for key, f in SECTIONS[name].fields.items()
        if key in entry.facts.defaults
    ]
    rows = table(owner, [*fields, *own])
    limits = ["", refused_of_timm()] if entry.form == "timm/<name>" else []
    return [f"### {plain(entry.name)}", "", entry.about, "", " · ".join(facts), *limits, *rows]


def refused_of_timm() -> str:
    """The optimizers of timm that do not run, or not everywhere."""
    from timm.optim import get_optimizer_info  # imported late: timm takes seconds

    infos = [get_optimizer_info(name) for name in timm_names()]
    second = ", ".join(f"`{info.name}`" for info in infos if info.second_order)
    packaged = ", ".join(f"`{info.name}`" for info in infos if isinstance(info.opt_class, str))
    text = (
        f"Refused: {second}, which needs second derivatives, and `lookahead_...`, which is the wrapper "
        f"`--lookahead` here. Only with a GPU and the package bitsandbytes or APEX: {packaged}."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def cost(trick: str, costs: Costs) -> str:
    """The time of a trick's step over the bare step, on each model it was measured on."""
    if trick in costs:
        return ", ".join(f"{ratio} on {model}" for model, ratio in costs[trick].items())
    bare = trick in tricks() and bench_tricks.in_bare_step(tricks()[trick])
    return "part of the bare step" if costs and bare else "not measured"


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
    """The number of pairs that train, and the refused ones."""
    choices = [name for name in dict.fromkeys(map(section_of, pairs.tried)) if SECTIONS[name].is_choice]
    host = " ".join(f"--{flag(key)} {value_text(value)}" for key, value in HOST.items())
    side, works = TRIAL["data.image_size"], len(pairs.pairs) - len(pairs.refused)
    lines = [
        TOGETHER.format(
            tricks=len(pairs.tried), works=f"{works:,}", pairs=f"{len(pairs.pairs):,}",
            refused=len(pairs.refused), choices=", ".join(f"`{name}`" for name in choices),
            host=host.replace("--model.name", "--model"), side=side,
        ),
        "| trick | trick | reason |",
        "|---|---|---|",
    ]  # fmt: skip
    lines += [f"| `{one}` | `{other}` | {plain(reason)} |" for one, other, reason in pairs.refused]
    if pairs.alone:
        lines += [SINGLE, *(f"- `{trick}`: {plain(reason)}" for trick, reason in pairs.alone.items())]
    return lines


HEAD = """# Tricks

Generated by `make docs` from the registries: description, paper, flags with defaults, cost and incompatible
combinations of every trick. `--sam` enables a trick with its defaults, `--sam 0.1` sets its first field,
`--sam-rho 0.1` sets any field; optimizers, losses and schedules are selected by name, `--optim adamw`.
`-` and `_` are interchangeable. Costs are the time of a step over that of a bare step, from
[the benchmarks](benchmarks.md).
"""

TOGETHER = """## Combinations

Each of the {tricks} tricks on this page, augmentations included, was combined with each of the others, and
the run was built and trained for one step on {side}x{side} images with
`{host}`.
Of {pairs} pairs, {works} train; {refused} are refused before the first step, for the reasons below. One
entry of each of {choices} is selected, so two entries of one of these are not a pair; of several mixes,
[one is drawn for each batch](augmentations.md#one-mix-per-batch). Other models may refuse a trick that they
have no place for, with a message.
"""

SINGLE = """
These were refused on that model even alone, and are in no pair:
"""
