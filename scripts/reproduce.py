"""`python -m scripts.reproduce TABLE [FOLDER...]`: compare published numbers with our runs.

`lib/report/reproduce.py` describes the test. The published number of a row marked with * does not measure its
setting; the reason follows the table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from lib.core.errors import BadInput, exit_code
from lib.grid.catalogue import find_grid
from lib.report.published import read_published
from lib.report.records import RunRecord, read_records
from lib.report.reproduce import comparison_of, complete_runs, report

from .arguments import Parser, file_path

DEFAULT_FOLDERS = (Path("runs"), Path("results"))


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="its name; scripts/run.sh lists them")
    parser.add_argument("folders", nargs="*", type=file_path, help="runs to compare (runs and results)")
    options = parser.parse_args(argv)
    return exit_code(lambda: print(reproduced(options.table, options.folders)))


def reproduced(name: str, folders: Sequence[Path]) -> str:
    """The report on a table.

    Raises:
        BadInput: there is no such grid, it has no published table, or the folders contain no runs.
    """
    grid, table = find_grid(name), read_published().get(name)
    if table is None:
        raise BadInput(f"there is nothing published for {name}; use scripts.table")
    published = {result.id: result for result in table.rows}
    runs = complete_runs(_runs(folders))
    rows = [
        comparison_of(
            row.name,
            f"scripts/run.sh {name} --only {row.name}",
            row.config,
            published.get(row.published),
            runs,
        )
        for row in grid.rows
    ]
    left = [f"{result.id}: not here: {result.cannot}" for result in table.rows if result.cannot]
    left += [f"{result.id}: the same as {result.same_as}" for result in table.rows if result.same_as]
    return "\n".join(
        [f"{table.title} ({table.source}); accuracies in %", "", report(rows), "", *left]
    ).rstrip()


def _runs(folders: Sequence[Path]) -> list[RunRecord]:
    if folders:
        return read_records(folders).runs
    try:
        return read_records([folder for folder in DEFAULT_FOLDERS if folder.is_dir()]).runs
    except BadInput:  # nothing has been run yet
        return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
