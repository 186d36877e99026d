"""`python -m scripts.docs.models`: write lib/models/macs.json and docs/models.md from the registry.

The multiply-accumulates of a model are counted on torch's meta device, where nothing is computed or stored.
"""

import importlib
import json
import sys
from pathlib import Path

import torch

from lib.config.help import MACS, count_text, macs_text
from lib.core.files import write_atomic
from lib.core.registry import Entry, models
from lib.graph.cost import count_macs

DOC = Path(__file__).parents[2] / "docs" / "models.md"
SHAPE = (3, 32, 32)  # of the images, with 10 classes


def main() -> None:
    macs = {}
    for name in models.names():
        macs[name] = measure(models[name])
        print(f"{name:<32}{macs[name]:>18,}", file=sys.stderr)
    write_atomic(MACS, json.dumps(macs, indent=1) + "\n")
    write_atomic(DOC, page(macs))


def measure(entry: Entry) -> int:
    """Multiply-accumulates of one image."""
    with torch.device("meta"):
        model = entry.build(num_classes=10, in_channels=SHAPE[0], image_size=SHAPE[1])
    return count_macs(model, SHAPE)


def page(macs: dict[str, int]) -> str:
    """docs/models.md: a table for each module of lib/models, in the order of their names."""
    families: dict[str, list[Entry]] = {}
    for entry in models.entries():
        families.setdefault(entry.module, []).append(entry)
    parts = [HEAD]
    for module in sorted(families):
        about = importlib.import_module(module).__doc__.strip().partition("\n")[0]
        parts.append(f"\n## {module.rpartition('.')[2]}\n\n{about}\n\n{TABLE}")
        parts += [_row(entry, macs.get(entry.name)) for entry in families[module]]
    return "".join(parts)


HEAD = """# The models

Made by `python -m scripts.docs.models` from the registry. Parameters and multiply-accumulates (MACs) are
those of one image of 3x32x32 and 10 classes; ~ marks a figure that the paper rounds. An option is set with
`--model.<option>`.
"""
TABLE = "| name | also | parameters | MACs | options | paper |\n|---|---|---:|---:|---|---|\n"


def _row(entry: Entry, macs: int | None) -> str:
    name = entry.name.replace("<", "&lt;").replace(">", "&gt;")
    count = count_text(entry.facts.params)
    options, paper = " ".join(entry.fields), entry.facts.paper
    cells = [name, ", ".join(entry.aliases), count, macs_text(macs), options, paper]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
