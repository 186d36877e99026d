"""`python -m scripts.page FOLDER... -o page/`: a page of the runs below folders, for any browser.

The page is one file, `index.html`, and needs no network and no server.
"""

import argparse
import sys
from pathlib import Path

from lib.core.errors import exit_code
from lib.core.files import write_atomic

from .arguments import Parser, file_path


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m scripts.page", description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders", type=file_path, nargs="+", metavar="FOLDER", help="runs, or results/<something>"
    )
    parser.add_argument("-o", "--output", type=file_path, default=Path("page"), help="folder of the page")
    parser.add_argument("--baseline", metavar="ROW", help="the row that the others are compared with")
    parser.add_argument("--paired", action="store_true", help="take the differences seed by seed")
    parser.add_argument("--title", default="Results", help="title of the page")
    return exit_code(_write, parser.parse_args(argv))


def _write(options: argparse.Namespace) -> None:
    # Imported late: this takes a second, which `--help` does not need.
    from lib.report.page import results_page
    from lib.report.records import read_records
    from lib.report.text import count

    records = read_records(options.folders)
    page = results_page(records, options.baseline, options.title, options.paired)
    path = options.output / "index.html"
    write_atomic(path, page)
    print(f"{path}: {count(len(records.runs), 'run')}, {len(page.encode()) / 1000:,.0f} kB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
