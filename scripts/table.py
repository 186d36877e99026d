"""`python -m scripts.table FOLDER... --baseline ROW`: a table of the runs below folders, from their records.

A row is a setting over its seeds. Notes on the numbers and on records left out follow; with `--format csv`
they go to standard error.
"""

import argparse
import sys

from lib.core.errors import BadInput, exit_code, nearest

from .arguments import Parser, file_path


def main(argv: list[str]) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders", type=file_path, nargs="+", metavar="FOLDER", help="runs, or results/<something>"
    )
    parser.add_argument("--baseline", metavar="ROW", help="the row that the others are compared with")
    parser.add_argument("--rows", default="", metavar="A,B", help="describe rows by ticks for these settings")
    parser.add_argument("--columns", default="", metavar="A,B", help="more columns: best, ema, tta_flip...")
    parser.add_argument(
        "--drop", default="", metavar="A,B", help="leave out columns: interval, p, seconds..."
    )
    parser.add_argument("--format", default="md", help="md, csv, json, latex or html")
    parser.add_argument("--paired", action="store_true", help="take differences seed by seed")
    parser.add_argument("--two-level", action="store_true", help="add intervals over seeds and test images")
    parser.add_argument("--match-compute", action="store_true", help="accuracies at equal training FLOP")
    parser.add_argument("--published", metavar="TABLE", help="compare with a table of scripts/run.sh")
    return exit_code(_table, parser.parse_args(argv))


def _table(options: argparse.Namespace) -> None:
    from lib.report.records import read_records
    from lib.report.render import FORMATS, remarks, render
    from lib.report.summarise import summarise

    if options.format not in FORMATS:
        hint = nearest(options.format, FORMATS) or f"one of {', '.join(FORMATS)}"
        raise BadInput(f"unknown --format {options.format!r}: {hint}")
    table = summarise(
        read_records(options.folders),
        baseline=options.baseline,
        ticks=_names(options.rows),
        columns=_names(options.columns),
        published=_published(options.published) if options.published else {},
        paired=options.paired,
        two_level=options.two_level,
        match_compute=options.match_compute,
    )
    print(render(table, options.format, _names(options.drop)), end="")
    if options.format == "csv":
        print("\n".join(remarks(table)), file=sys.stderr)


def _published(name: str) -> dict[str, float]:
    """The published accuracies of a grid, by row."""
    from lib.grid.catalogue import find_grid
    from lib.report.published import accuracies

    return accuracies((row.name, row.published) for row in find_grid(name).rows)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
