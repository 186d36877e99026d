"""`python -m scripts.docs.augmentations`: write docs/augmentations.md and its pictures from the registry."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib.augment.pipeline import Augmentation, Mix
from lib.config.help import value_text
from lib.core.facts import Stage
from lib.core.fields import Field, fields_of
from lib.core.files import write_atomic
from lib.core.registry import REGISTRIES, Entry, Registry, augmentations, tta
from scripts.docs.augment_figures import picture

DOC = Path(__file__).parents[2] / "docs" / "augmentations.md"
UNREGISTERED = {
    Stage.NORMALIZE: "uint8 pixels become floats of mean 0 and variance 1",
    Stage.SHARD: "of several processes each goes on with its own part of the batch",
    Stage.TEACH: "the teachers of a distillation add their logits",
}
PICTURES = DOC.with_suffix("")  # the folder beside it
COMMON = fields_of(Augmentation)  # what every augmentation has, told once


def main() -> None:
    write_atomic(DOC, page())
    for entry in (*entries_of(augmentations), *entries_of(tta)):
        drawn = picture(entry)
        write_atomic(PICTURES / f"{entry.name}.png", drawn)
        print(f"{entry.name:<32}{len(drawn):>8,} bytes", file=sys.stderr)


def entries_of(registry: Registry) -> list[Entry]:
    return [registry[name] for name in registry.names()]


def page() -> str:
    """docs/augmentations.md: the rules, then a section for each augmentation in the order of the stages."""
    entries = sorted(entries_of(augmentations), key=lambda entry: entry.facts.stage)
    return "\n".join(
        [
            HEAD,
            *order_table(entries),
            RULES,
            *field_table(COMMON.values(), "every augmentation"),
            MIXES,
            *field_table(own(fields_of(Mix)).values(), "every mix"),
            COMPAT,
            *compat_table(),
            "",
            *(line for entry in entries for line in section(entry)),
            VIEWS,
            *(line for entry in entries_of(tta) for line in section(entry, "###")),
        ]
    )


def order_table(entries: list[Entry]) -> list[str]:
    """The stages in their order, each with what is registered for it."""
    lines = ["| stage | augmentations |", "|---|---|"]
    for stage in Stage:
        names = [f"[{e.name}](#{e.name})" for e in entries if e.facts.stage is stage]
        lines.append(f"| {stage.name.lower()} | {', '.join(names) or UNREGISTERED[stage]} |")
    return lines


def compat_table() -> list[str]:
    """What an older project's settings change, of whatever kind it is."""
    lines = ["", "| `--compat` | of | differs |", "|---|---|---|"]
    for registry in REGISTRIES.values():
        for entry in registry.entries():
            for era, facts in entry.facts.compat.items():
                differs = ", ".join(f"{key} `{value_text(value)}`" for key, value in facts.items())
                lines.append(f"| {era} | {registry.kind} {entry.name} | {differs} |")
    return lines


def section(entry: Entry, level: str = "##") -> list[str]:
    """One entry: what it is, its command line, its fields and its picture."""
    stage, paper = entry.facts.stage, entry.facts.paper
    told = [f"stage: {stage.name.lower()}"] if stage else []
    told += [f"also `--{'`, `--'.join(map(flag, entry.aliases))}`"] if entry.aliases else []
    told += [f"paper: {paper}"] if paper else []
    fields = own({key: replace(f, default=default_of(entry, f)) for key, f in entry.fields.items()})
    return [
        f"{level} {entry.name}",
        "",
        entry.about,
        "",
        *([" · ".join(told), ""] if told else []),
        "```bash",
        command(entry, fields),
        "```",
        *field_table(fields.values(), "field"),
        "",
        f"![{entry.name}](augmentations/{entry.name}.png)",
        "",
    ]


def own(fields: dict[str, Field]) -> dict[str, Field]:
    """The fields, less those that every augmentation has."""
    return {key: f for key, f in fields.items() if f != COMMON.get(key)}


def default_of(entry: Entry, field: Field) -> Any:
    return entry.facts.defaults.get(field.name, field.default)


def command(entry: Entry, fields: dict[str, Field]) -> str:
    """A line that switches it on and sets what it has to set, to what it is anyway."""
    told = [f for f in fields.values() if f.default is not None][:2]
    parts = [f"--{flag(entry.name)}-{flag(f.name)} {value_text(f.default)}" for f in told]
    return " ".join(["python train.py --model resnet20", f"--{flag(entry.name)}", *parts])


def field_table(fields: Iterable[Field], title: str) -> list[str]:
    rows = [f"| `{f.name}` | {value_text(f.default)} | {f.help.replace('|', '/')} |" for f in fields]
    return ["", f"| {title} | default | |", "|---|---|---|", *rows] if rows else []


def flag(name: str) -> str:
    return name.replace("_", "-")


HEAD = """# The augmentations

Made by `python -m scripts.docs.augmentations` from the registry. A picture shows the same drawn images before
and after an augmentation at its defaults, several times where chance has a part in it; targets are written
under the images where they change. The same of your own command, with the batch that training would see:

```bash
python -m scripts.preview --dataset digits --cutout --mixup -o grid.png
```

`--cutout` switches an augmentation on with its defaults, `--cutout 8` sets its first field, `--cutout-size 8`
any field, and `--no-flip` switches off what a data set has on by itself.

## The order

An augmentation belongs to a stage, and the stages follow one another in this order, whatever the order of the
flags; within a stage, the order is that of the names. `python train.py --dry-run` shows it for a command.
"""

RULES = """
Pixels are uint8 before `normalize` and floats after it. Every image of a batch has a draw of its own, a mix
one draw for the batch unless its options say otherwise. All draws are a function of seed, step and name, so
switching one augmentation on leaves those of the others as they were.

## Start and stop

An augmentation may be limited to a part of the training: with `--mixup-stop 180` the epochs from 180 on are
without mixup, with `--cutout-start 10` the first ten are without cutout."""

MIXES = """
## One mix a batch

Of several mixes one is drawn for each batch. Two in sequence would give wrong targets: the pasted part of an
image that is itself pasted does not hold that image's average label. With
`--mixup --mixup-prob 0.5 --cutmix --cutmix-prob 0.3` half of the batches get mixup, three in ten CutMix, and
the rest neither; where the shares add up to more than 1, they are weights."""

COMPAT = """
## Settings of older projects

`--compat` chooses an older project's settings wherever they differ from ours, so that its published numbers
can be compared. A flag of your own still wins."""

VIEWS = """## Test-time views

These do not touch training: in the end, the test set is evaluated once more, with the weighted mean of the
logits over several views of each image. The pictures show what the network sees of two images.
"""


if __name__ == "__main__":
    main()
