"""`python -m scripts.grid configs/grids/quickstart.yaml`: run a grid of experiments and print their table.

The same command resumes an interrupted grid and skips completed runs. `lib/grid/spec.py` describes the format
of the file. `python -m scripts.grid --list` lists the grids in configs/grids with their costs.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lib.core.errors import BadInput, exit_code
from lib.grid.carry_out import Progress, chosen, command, jobs_of, summary
from lib.grid.catalogue import listing
from lib.grid.estimate import estimate
from lib.grid.job import Options, backends, done, outcome
from lib.grid.scale import scaled
from lib.grid.spec import read_grid, read_seeds


def main(argv: list[str], train: tuple[str, ...] = Options.train) -> int:
    """Run one command line; returns the exit code.

    Args:
        train: the command that the words of a run are put behind.
    """
    try:
        return exit_code(run, argv, train)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was stopped", file=sys.stderr)
        return 130


def run(argv: list[str], train: tuple[str, ...]) -> int:
    asked, backend, own = _parse(argv)
    if asked.list is not None:
        print(listing(asked.list))
        return 0
    options = _options(asked, train)
    grid = read_grid(asked.file)
    rows, seeds = chosen(grid.rows, asked.only), read_seeds(asked.seeds) if asked.seeds else grid.seeds
    folder = asked.output_dir or Path("runs/grids", grid.name)
    if asked.scale is not None:
        rows = [row.but("--scale", scaled(row.config, asked.scale)) for row in rows]
        folder = folder.with_name(f"{folder.name}-scale{asked.scale:g}")
        print(f"a trial, and no results: {asked.scale:g} of the epochs, on {asked.scale:g} of the images")
    jobs = jobs_of(rows, seeds, folder)
    left = [job for job in jobs if not done(job)]
    shape = f"{_count(rows, 'row')} x {_count(seeds, 'seed')}"
    print(f"{shape}: {_count(jobs, 'run')}, {len(left)} to do, in {folder}")
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        print(f"note: {note}")
    if left and asked.backend == "local":  # elsewhere, what this machine could tell of time would be wrong
        slots = len(options.gpus) or options.jobs or 1
        print(estimate(left, rows, folder, slots, options.gpus[0] if options.gpus else None), flush=True)
    if asked.dry_run:
        print("\n".join(map(command, left)))
        return 0
    if left:
        with Progress(left) as progress:
            backend(jobs=left, options=options, report=progress.report, **own)
        if progress.left:  # a back end that does not wait
            print(f"{_count(progress.left, 'run')} on the way; the same command watches what goes on")
            return 0
    print(summary(jobs, grid, folder, trial=asked.scale is not None))
    return 0 if all(outcome(job) == "ok" for job in jobs) else 1


def _count(things: Sequence, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _parse(argv: list[str]) -> tuple[argparse.Namespace, Callable[..., None], dict[str, Any]]:
    """The words, the back end, and the back end's own options."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--backend", default="local", help="what carries out the runs (local)")
    entry = backends[first.parse_known_args(argv)[0].backend]

    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        parents=[first],
        allow_abbrev=False,
        prog="python -m scripts.grid",
    )
    parser.add_argument("file", type=Path, nargs="?", help="the grid, such as configs/grids/quickstart.yaml")
    parser.add_argument(
        "--list", nargs="*", metavar="TABLE", help="list these grids, or all of configs/grids"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the commands that are left, and run none"
    )
    parser.add_argument("--only", metavar="PATTERN", help="rows whose name matches, as 'cutout*' or none,sam")
    parser.add_argument("--seeds", help="in place of the grid's: 0..4, or 0,2")
    parser.add_argument("--scale", type=float, help="a trial: this share of the epochs and of the images")
    parser.add_argument("--jobs", type=int, help="runs at once (here 1, on a cluster what it has room for)")
    parser.add_argument(
        "--gpus", help="one run at once on each of these GPUs, as 0,1; 0,0 puts two on the first"
    )
    parser.add_argument(
        "--retries", type=int, default=2, help="so often a run that died is started again (2)"
    )
    parser.add_argument("--output-dir", type=Path, help="else runs/grids/<name of the file>")
    for field in entry.fields.values():
        switch = {"action": argparse.BooleanOptionalAction} if field.type is bool else {}
        parser.add_argument(f"--{field.name.replace('_', '-')}", help=f"{entry.name}: {field.help}", **switch)
    asked = parser.parse_args(argv)
    if asked.file is None and asked.list is None:
        parser.error("give the file of a grid, or --list")
    own = {}
    for field in entry.fields.values():
        if (value := getattr(asked, field.name)) is not None:
            try:
                own[field.name] = field.parse(value)
            except ValueError as error:
                raise BadInput(f"--{field.name.replace('_', '-')}: {error}") from error
    return asked, backends.function(entry.form), own


def _options(asked: argparse.Namespace, train: tuple[str, ...]) -> Options:
    gpus = tuple(part.strip() for part in asked.gpus.split(",")) if asked.gpus else ()
    try:
        return Options(asked.jobs, gpus, asked.retries, train)
    except ValueError as error:
        raise BadInput(f"--{error}") from error


def end_in_order() -> None:
    """From here on, what ends a program politely ends this one like Ctrl-C, and its runs with it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    end_in_order()
    sys.exit(main(sys.argv[1:]))
