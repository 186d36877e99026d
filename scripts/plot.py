"""`python -m scripts.plot KIND FOLDER...`: a plot of the runs below folders, from their records.

A setting is a row of `scripts.table` and has the same numbers. Records left out are printed. The same records
give the same bytes.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.core.errors import BadInput, exit_code
from lib.core.files import write_atomic

from .arguments import Parser, file_path

Drawn = tuple[Any, list[tuple[str, str]]]  # a figure, and what was left out with the reasons


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m scripts.plot", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, draw in KINDS.items():
        kind = kinds.add_parser(name, help=draw.__doc__.replace("%", "%%"), description=draw.__doc__)
        kind.add_argument(
            "folders", type=file_path, nargs="+", metavar="FOLDER", help="runs, or results/<something>"
        )
        kind.add_argument("-o", "--output", type=file_path, help=f"a .png, .svg or .pdf; default: {name}.png")
        kind.add_argument("--title", default="", help="title of the figure")
        if draw in COMPARED:
            kind.add_argument("--baseline", metavar="ROW", help="the row that the others are compared with")
        if draw is forest:
            kind.add_argument("--paired", action="store_true", help="take differences seed by seed")
    return exit_code(_plot, parser.parse_args(argv))


def _plot(options: argparse.Namespace) -> None:
    from lib.report.style import FORMATS, encode

    output = options.output or Path(f"{options.kind}.png")
    form = output.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise BadInput(f"--output must end in {', '.join(f'.{f}' for f in FORMATS)}, got {str(output)!r}")
    figure, left_out = KINDS[options.kind](options)
    write_atomic(output, encode(figure, form))
    for name, why in left_out:
        print(f"left out: {name}: {why}")
    print(f"figure: {output}")


def curves(options: argparse.Namespace) -> Drawn:
    """training loss and test accuracy over the epochs, with a band over the seeds"""
    from lib.report.plots import curves
    from lib.report.plots.epochs import settings_of
    from lib.report.records import read_records
    from lib.report.summarise import summarise

    records = read_records(options.folders)
    table = summarise(records, baseline=options.baseline)
    settings, left_out = settings_of(records, table)
    return curves.draw(settings, table.baseline, options.title), [*table.left_out, *left_out]


def forest(options: argparse.Namespace) -> Drawn:
    """the difference of each setting to the baseline, with 95 % intervals"""
    from lib.report.plots import forest
    from lib.report.records import read_records
    from lib.report.summarise import summarise

    if not options.baseline:
        raise BadInput("forest needs a --baseline, the row that the others are compared with")
    table = summarise(read_records(options.folders), baseline=options.baseline, paired=options.paired)
    return forest.draw(table, options.title), list(table.left_out)


def compute(options: argparse.Namespace) -> Drawn:
    """accuracy against training compute, with the Pareto front"""
    from lib.report.plots import compute
    from lib.report.records import read_records
    from lib.report.summarise import summarise

    table = summarise(read_records(options.folders), baseline=options.baseline)
    rows, left_out = compute.costed(table)
    return compute.draw(rows, options.title), [*table.left_out, *left_out]


def rate(options: argparse.Namespace) -> Drawn:
    """the learning rate over the epochs"""
    from lib.report.plots import learning_rate
    from lib.report.plots.epochs import settings_of
    from lib.report.records import read_records

    settings, left_out = settings_of(read_records(options.folders))
    return learning_rate.draw(settings, options.title), left_out


def confusion(options: argparse.Namespace) -> Drawn:
    """confusion matrix of one run, from its predictions.npz"""
    from lib.report.plots import confusion
    from lib.report.records import read_records

    runs = read_records(options.folders).runs
    if len(runs) > 1:
        found = ", ".join(str(run.folder) for run in runs[:3]) + (", ..." if len(runs) > 3 else "")
        raise BadInput(f"confusion needs one run, but there are {len(runs)}: {found}; give the folder of one")
    return confusion.draw(runs[0], options.title), []


KINDS: dict[str, Callable[[argparse.Namespace], Drawn]] = {
    draw.__name__: draw for draw in (curves, forest, compute, rate, confusion)
}
COMPARED = (curves, forest, compute)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
