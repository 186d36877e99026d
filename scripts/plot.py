"""`python -m scripts.plot KIND FOLDER...`: a picture of the runs below folders, from their records.

curves      training loss and test accuracy over the epochs; a line a setting, with a band over its seeds
forest      the difference of each setting to the baseline, with 95 % intervals
compute     accuracy against the operations of training, with the Pareto front
rate        the learning rate over the epochs
confusion   which classes one run takes for which, from its predictions.npz

A setting is a row of `scripts.table`, over its seeds, and has the same numbers here. What was left out is
told. The same records give the same file, byte by byte.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.errors import BadInput, exit_code
from lib.files import write_atomic

Drawn = tuple[Any, list[tuple[str, str]]]  # a figure, and what was left out of it, with reasons


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="runs, or results/<something>"
    )
    parser.add_argument("-o", "--output", type=Path, help="a .png or .svg; KIND.png if not given")
    parser.add_argument("--baseline", metavar="ROW", help="the row that the others are compared with")
    parser.add_argument("--paired", action="store_true", help="forest: differences seed by seed")
    parser.add_argument("--title", default="", help="stands above the picture")
    return exit_code(_plot, parser.parse_args(argv))


def _plot(options: argparse.Namespace) -> None:
    from lib.report.style import FORMATS, encode

    output = options.output or Path(f"{options.kind}.png")
    form = output.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise BadInput(f"--output must end in {' or '.join(f'.{f}' for f in FORMATS)}, got {str(output)!r}")
    figure, left_out = KINDS[options.kind](options)
    write_atomic(output, encode(figure, form))
    for what, why in left_out:
        print(f"left out: {what}: {why}")
    print(f"picture: {output}")


def curves(options: argparse.Namespace) -> Drawn:
    from lib.report.plots import training
    from lib.report.plots.epochs import settings_of
    from lib.report.records import read_records
    from lib.report.table import summarise

    records = read_records(options.folders)
    table = summarise(records, baseline=options.baseline)
    settings, left_out = settings_of(records, table)
    return training.draw(settings, table.baseline, options.title), [*table.left_out, *left_out]


def forest(options: argparse.Namespace) -> Drawn:
    from lib.report.plots import forest
    from lib.report.records import read_records
    from lib.report.table import summarise

    if not options.baseline:
        raise BadInput("forest needs a --baseline, the row that the others are compared with")
    table = summarise(read_records(options.folders), baseline=options.baseline, paired=options.paired)
    return forest.draw(table, options.title), list(table.left_out)


def compute(options: argparse.Namespace) -> Drawn:
    from lib.report.plots import compute
    from lib.report.records import read_records
    from lib.report.table import summarise

    table = summarise(read_records(options.folders), baseline=options.baseline)
    rows, left_out = compute.costed(table)
    return compute.draw(rows, options.title), [*table.left_out, *left_out]


def rate(options: argparse.Namespace) -> Drawn:
    from lib.report.plots import rate
    from lib.report.plots.epochs import settings_of
    from lib.report.records import read_records

    settings, left_out = settings_of(read_records(options.folders))
    return rate.draw(settings, options.title), left_out


def confusion(options: argparse.Namespace) -> Drawn:
    from lib.report.plots import predictions
    from lib.report.records import read_records

    runs = read_records(options.folders).runs
    if len(runs) > 1:
        held = ", ".join(str(run.folder) for run in runs[:3]) + (", ..." if len(runs) > 3 else "")
        raise BadInput(f"confusion is of one run, but these are {len(runs)}: {held}; give the folder of one")
    return predictions.draw(runs[0], options.title), []


KINDS: dict[str, Callable[[argparse.Namespace], Drawn]] = {
    "curves": curves,
    "forest": forest,
    "compute": compute,
    "rate": rate,
    "confusion": confusion,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
