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

from lib.core.errors import BadInput, complain, exit_code, where
from lib.grid.catalogue import listing
from lib.grid.estimate import estimate
from lib.grid.job import Job, Options, backends, done, make_jobs, outcome
from lib.grid.progress import Progress, summary
from lib.grid.scale import scaled
from lib.grid.spec import read_grid, read_seeds, select_rows
from lib.grid.states import changed, delete, select_runs, status
from lib.report.text import count

from .arguments import Parser, file_path


def main(argv: list[str], train: tuple[str, ...] = Options.train) -> int:
    """Run one command line and return the exit code.

    Args:
        train: the command of a run, without its arguments.
    """
    try:
        return exit_code(run, argv, train)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130


def run(argv: list[str], train: tuple[str, ...]) -> int:
    args, backend, backend_options = _parse(argv)
    if args.list is not None:
        print(listing(args.list))
        return 0
    options = _options(args, train)
    grid = read_grid(args.file)
    rows = select_rows(grid.rows, args.only)
    seeds = read_seeds(args.seeds) if args.seeds else grid.seeds
    folder = args.output_dir or Path("runs/grids", grid.name)
    if args.scale is not None:
        rows = [row.override("--scale", scaled(row.config, args.scale)) for row in rows]
        folder = folder.with_name(f"{folder.name}-scale{args.scale:g}")
        print(f"a trial, not a result: {args.scale:g} of the epochs on {args.scale:g} of the images")
    jobs = make_jobs(rows, seeds, folder)
    if args.status:
        print(status(jobs))
        return 0
    again = _delete(jobs, args) if args.redo or args.delete else []
    if args.delete:
        return 0
    stale = [job for job in jobs if job.conflict and job not in again]
    if stale:
        complain(changed(stale))
    left = [job for job in jobs if job not in stale and (job in again or not done(job))]
    shape = f"{count(len(rows), 'row')} x {count(len(seeds), 'seed')}"
    print(f"{shape}: {count(len(jobs), 'run')}, {len(left)} to do, in {folder}")
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        print(f"note: {note}")
    refused = 2 if stale else 0
    if args.dry_run:
        print("\n".join(job.command for job in left))
        return refused
    if left and args.backend == "local":  # other machines differ in speed
        slots = len(options.gpus) or options.jobs or 1
        print(estimate(left, rows, folder, slots, options.gpus[0] if options.gpus else None), flush=True)
    if left:
        with Progress(left) as progress:
            backend(jobs=left, options=options, report=progress.report, **backend_options)
        if progress.left:  # a back end that does not wait
            queued = count(len(progress.left), "run")
            print(f"still queued or running: {queued}; rerun this command to monitor them")
            return refused
    print(summary(jobs, grid, folder, trial=args.scale is not None, stale=stale))
    return refused or (0 if all(outcome(job) == "ok" for job in jobs) else 1)


def _delete(jobs: Sequence[Job], args: argparse.Namespace) -> list[Job]:
    """Delete the runs that --redo or --delete names, or with --dry-run only name them; returns them."""
    flag, text = ("--redo", args.redo) if args.redo else ("--delete", args.delete)
    chosen = select_runs(jobs, flag, text)
    if not args.dry_run:
        delete(chosen)
    names = ", ".join(job.name for job in chosen) or "no run"
    print(f"{'would delete' if args.dry_run else 'deleted'}: {names}")
    return chosen


def _parse(argv: list[str]) -> tuple[argparse.Namespace, Callable[..., None], dict[str, Any]]:
    """The options, the back end, and the back end's own options."""
    first = Parser(add_help=False)
    first.add_argument("--backend", default="local", help="local, slurm or ray (local)")
    entry = backends[first.parse_known_args(argv)[0].backend]

    parser = Parser(
        description=__doc__.splitlines()[0],
        parents=[first],
        prog="python -m scripts.grid",
    )
    parser.add_argument(
        "file", type=file_path, nargs="?", help="the grid: configs/grids/quickstart.yaml, ..."
    )
    parser.add_argument(
        "--list", nargs="*", metavar="TABLE", help="list these grids, or all of configs/grids"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands of the runs that are left, and run none"
    )
    parser.add_argument(
        "--only", metavar="PATTERN", help="only rows with a matching name: 'cutout*' or none,sam"
    )
    states = parser.add_mutually_exclusive_group()
    states.add_argument("--status", action="store_true", help="list the state of every run, and run none")
    states.add_argument(
        "--redo",
        metavar="RUNS",
        help="delete these runs and run them again: failed, changed, or names of rows",
    )
    states.add_argument("--delete", metavar="RUNS", help="delete these runs, and run none")
    parser.add_argument("--seeds", help="seeds instead of those of the grid: 0..4, or 0,2")
    parser.add_argument("--scale", type=float, help="a trial on this fraction of the epochs and images")
    parser.add_argument("--jobs", type=int, help="runs at once (1 here; on a cluster as many as fit)")
    parser.add_argument(
        "--gpus", help="run one at a time on each of these GPUs: 0,1; 0,0 puts two on the first"
    )
    parser.add_argument("--retries", type=int, default=2, help="restarts of a run that died (2)")
    parser.add_argument("--output-dir", type=file_path, help="folder of the runs (runs/grids/<name>)")
    for field in entry.fields.values():
        switch = {"action": argparse.BooleanOptionalAction} if field.type is bool else {}
        parser.add_argument(f"--{field.name.replace('_', '-')}", help=f"{entry.name}: {field.help}", **switch)
    args = parser.parse_args(argv)
    if args.file is None and args.list is None:
        parser.error("give the file of a grid, or --list")
    backend_options = {}
    for field in entry.fields.values():
        if (value := getattr(args, field.name)) is not None:
            with where(f"--{field.name.replace('_', '-')}"):
                backend_options[field.name] = field.parse(value)
    return args, backends.function(entry.form), backend_options


def _options(args: argparse.Namespace, train: tuple[str, ...]) -> Options:
    gpus = tuple(part.strip() for part in args.gpus.split(",")) if args.gpus else ()
    try:
        return Options(args.jobs, gpus, args.retries, train)
    except ValueError as error:
        raise BadInput(f"--{error}") from error


def end_gracefully() -> None:
    """Treat SIGTERM and SIGHUP like Ctrl-C, so that the runs are ended too."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    end_gracefully()
    sys.exit(main(sys.argv[1:]))
