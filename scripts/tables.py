"""`python -m scripts.tables`: the grids in configs/grids, a line each, with what they cost.

The cost is that of the whole grid, all seeds: hours on the GPU that the table was made with, where they have
been published, for as many of its rows; else operations of training, 6 for each multiply-accumulate that an
image takes, and twice as many where an optimizer asks for the gradient twice.
"""

import argparse
import json
import sys
from pathlib import Path

from lib.config.help import MACS
from lib.core.errors import BadInput, exit_code, nearest
from lib.grid.spec import Grid, Row, read_grid
from lib.report.published import Result, Table, read_published
from lib.report.text import aligned

GRIDS = Path(__file__).parents[1] / "configs" / "grids"


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help="only these; else all")
    asked = parser.parse_args(argv)
    return exit_code(lambda: print(listing(asked.tables)))


def names() -> list[str]:
    """The grids there are, by name."""
    return sorted(path.stem for path in GRIDS.glob("*.yaml"))


def grid_of(name: str) -> Grid:
    """The grid called so.

    Raises:
        BadInput: there is none; the message holds the nearest names.
    """
    if name not in names():
        hint = nearest(name, names()) or "scripts/run.sh without a name lists them"
        raise BadInput(f"there is no table {name!r}: {hint}")
    return read_grid(GRIDS / f"{name}.yaml")


def listing(wanted: list[str]) -> str:
    """A line for each of the grids, or all."""
    published = read_published()
    grids = [grid_of(name) for name in wanted or names()]
    lines = [("table", "what it is", "rows x seeds", "epochs", "cost")]
    lines += [_line(grid, published.get(grid.name)) for grid in grids]
    # The last two columns hold numbers; the texts before them are easier to read flush left.
    width = max(len(line[1]) for line in lines)
    return aligned([(name, what.ljust(width), *rest) for name, what, *rest in lines])


def _line(grid: Grid, table: Table | None) -> tuple[str, ...]:
    seeds = len(grid.seeds)
    epochs = sum(row.config.train.epochs for row in grid.rows) * seeds
    what = table.title if table else about(GRIDS / f"{grid.name}.yaml")
    return grid.name, what, f"{len(grid.rows)} x {seeds}", f"{epochs:,.0f}", _cost(grid, table)


def about(path: Path) -> str:
    """The first sentence of the comment at the head of a grid."""
    head = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        head.append(line.lstrip("# "))
    return " ".join(head).partition(". ")[0].partition(":")[0].rstrip(".")


def _cost(grid: Grid, table: Table | None) -> str:
    rows, seeds = len(grid.rows), len(grid.seeds)
    printed = {result.id: result for result in table.rows} if table else {}
    timed = [result for row in grid.rows if (result := printed.get(row.published)) and result.seconds]
    if timed:
        hours = sum(result.seconds * result.gpus for result in timed) * seeds / 3600
        return f"{hours:,.{0 if hours >= 10 else 1}f} h of {_gpus(timed)}{_of(len(timed), rows)}"
    known = [flops for row in grid.rows if (flops := train_flops(row))]
    return f"{sum(known) * seeds / 1e15:,.0f} PFLOP{_of(len(known), rows)}" if known else "unknown"


def _of(known: int, rows: int) -> str:
    return "" if known == rows else f" ({known} of {rows} rows)"


def _gpus(results: list[Result]) -> str:
    return " and ".join(dict.fromkeys(result.gpu or "an unnamed GPU" for result in results))


def train_flops(row: Row) -> float | None:
    """The floating-point operations of a run's training, or None where its model has not been measured so."""
    config = row.config
    model, data = config.chosen["model"], config.chosen["data"].entry.facts
    usual = all(model.options[key] == field.default for key, field in model.entry.fields.items())
    macs = json.loads(MACS.read_text()).get(model.entry.name)
    if macs is None or not usual or data.get("shape", ())[1:] != (32, 32):
        return None
    gradients = 2 if any(trick.entry.facts.perturbs for trick in config.tricks["wrap"].values()) else 1
    return 6.0 * macs * data["train"] * config.data.fraction * config.train.epochs * gradients


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
