"""`python -m scripts.page FOLDER... -o page/`: a page of the runs below folders, for any browser.

The page is one file, `index.html`, and needs no network and no server.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lib.core.errors import BadInput, exit_code
from lib.core.files import write_atomic

if TYPE_CHECKING:
    from lib.report.mistakes import Mistake
    from lib.report.records import Records

from .arguments import Parser, file_path


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m scripts.page", description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders", type=file_path, nargs="+", metavar="FOLDER", help="runs, or results/<something>"
    )
    parser.add_argument("-o", "--output", type=file_path, default=Path("page"), help="folder of the page")
    parser.add_argument("--baseline", metavar="ROW", help="the row that the others are compared with")
    parser.add_argument("--paired", action="store_true", help="take the differences seed by seed")
    parser.add_argument(
        "--errors",
        type=int,
        default=0,
        metavar="N",
        help="show the N most confident mistakes of a single run",
    )
    parser.add_argument("--title", default="Results", help="title of the page")
    return exit_code(_write, parser.parse_args(argv))


def _write(options: argparse.Namespace) -> None:
    # Imported late: this takes a second, which `--help` does not need.
    from lib.report.page import results_page
    from lib.report.records import read_records
    from lib.report.text import count

    records = read_records(options.folders)
    mistakes = _mistakes(records, options.errors) if options.errors else []
    page = results_page(records, options.baseline, options.title, options.paired, mistakes)
    path = options.output / "index.html"
    write_atomic(path, page)
    print(f"{path}: {count(len(records.runs), 'run')}, {len(page.encode()) / 1000:,.0f} kB")


def _mistakes(records: "Records", count: int) -> "list[Mistake]":
    """The most confident mistakes of the run, whose images come from its data set."""
    import torch

    from lib.factory.load import load
    from lib.report.mistakes import most_confident
    from lib.report.run_metrics import predictions

    if len(records.runs) != 1 or count < 1:
        raise BadInput(
            f"--errors shows at least one mistake of one run, got {count} of {len(records.runs)} runs"
        )
    (record,) = records.runs
    run, (logits, _) = load(record.folder), predictions(record)
    return most_confident(
        run.models["last"], run.images["test"], torch.from_numpy(logits), run.classes, count
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
