"""The grids in configs/grids, most of which reproduce a published table, and what each of them costs.

The cost is that of all rows and seeds. Where the training time was published, it is given in hours on the GPU
of the publication; else in operations of training: 6 per multiply-accumulate of an image, and twice as many
where the optimizer computes the gradient twice.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ..config.listing import MACS
from ..core.errors import BadInput, nearest
from ..report.published import PublishedResult, PublishedTable, read_published
from ..report.text import aligned
from .spec import Grid, Row, read_grid

GRIDS = Path(__file__).parents[2] / "configs" / "grids"


def grid_names() -> list[str]:
    """The names of all grids in configs/grids, sorted."""
    return sorted(path.stem for path in GRIDS.glob("*.yaml"))


def find_grid(name: str) -> Grid:
    """The grid with this name; BadInput suggests the nearest names if there is none."""
    if name not in grid_names():
        hint = nearest(name, grid_names()) or "scripts/run.sh without arguments lists them"
        raise BadInput(f"there is no table {name!r}: {hint}")
    return read_grid(GRIDS / f"{name}.yaml")


def listing(names: Sequence[str] = ()) -> str:
    """A table of these grids, or of all: name, description, rows and seeds, epochs, cost."""
    published = read_published()
    grids = [find_grid(name) for name in names or grid_names()]
    lines = [("table", "description", "rows x seeds", "epochs", "cost")]
    lines += [_line(grid, published.get(grid.name)) for grid in grids]
    # The last columns hold numbers, which are aligned right; descriptions read better aligned left.
    width = max(len(description) for _, description, *_ in lines)
    return aligned([(name, description.ljust(width), *rest) for name, description, *rest in lines])


def _line(grid: Grid, table: PublishedTable | None) -> tuple[str, ...]:
    seeds = len(grid.seeds)
    epochs = sum(row.config.train.epochs for row in grid.rows) * seeds
    description = table.title if table else first_sentence(GRIDS / f"{grid.name}.yaml")
    return grid.name, description, f"{len(grid.rows)} x {seeds}", f"{epochs:,.0f}", _cost(grid, table)


def first_sentence(path: Path) -> str:
    """The first sentence of the comment at the top of a grid's file."""
    comment = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment).partition(". ")[0].partition(":")[0].rstrip(".")


def _cost(grid: Grid, table: PublishedTable | None) -> str:
    rows, seeds = len(grid.rows), len(grid.seeds)
    results = {result.id: result for result in table.rows} if table else {}
    timed = [result for row in grid.rows if (result := results.get(row.published)) and result.seconds]
    if timed:
        hours = sum(result.seconds * result.gpus for result in timed) * seeds / 3600
        return f"{hours:,.{0 if hours >= 10 else 1}f} h of {_gpus(timed)}{_coverage(len(timed), rows)}"
    known = [flops for row in grid.rows if (flops := train_flops(row))]
    return f"{sum(known) * seeds / 1e15:,.0f} PFLOP{_coverage(len(known), rows)}" if known else "unknown"


def _coverage(known: int, rows: int) -> str:
    return "" if known == rows else f" ({known} of {rows} rows)"


def _gpus(results: list[PublishedResult]) -> str:
    return " and ".join(dict.fromkeys(result.gpu or "an unnamed GPU" for result in results))


def train_flops(row: Row) -> float | None:
    """Floating-point operations of one training run, or None where the model's cost is not known."""
    config = row.config
    model, data = config.chosen["model"], config.chosen["data"].entry.facts
    # Costs are counted with default options, for 32 x 32 images.
    default = all(model.options[key] == field.default for key, field in model.entry.fields.items())
    macs = json.loads(MACS.read_text()).get(model.entry.name)
    if macs is None or not default or not data.train or data.shape is None or data.shape[1:] != (32, 32):
        return None
    gradients = 2 if any(wrapper.entry.facts.perturbs for wrapper in config.tricks["wrap"].values()) else 1
    return 6.0 * macs * data.train * config.data.fraction * config.train.epochs * gradients
