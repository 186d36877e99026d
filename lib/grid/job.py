"""A run of a grid as back ends see it: a command line, a folder, and the outcome found there.

A back end is a function in a file of this package, registered by name, that runs jobs and returns when there
is nothing left to do:

    @backends.register("slurm")
    def slurm(jobs: Sequence[Job], options: Options, report: Report, partition: str | None = None) -> None:

Its further arguments are its own flags: `--backend slurm --partition gpu`. It gets only jobs that are not
done. A failing job is no error of the back end: the outcome of a run is read from its folder.
"""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from ..config.cli import parse
from ..core.contracts import Count, validated
from ..core.errors import BadInput, require
from ..core.registry import PACKAGE, PROGRAM, Entry, Registry, import_all
from ..store.run_folder import COMPLETE, RunFolder, read_result
from .spec import Row

ROOT = Path(__file__).parents[2]
# In a checkout the package is `lib`, and train.py starts it from any folder.
TRAIN = (sys.executable, *([str(ROOT / "train.py")] if PACKAGE == "lib" else ["-m", PACKAGE]))
BAD_INPUT = 2  # exit code of a run that would be refused again

# The states that a back end reports.
RUNNING = "running"  # started, or continued after it died
WAITING = "waiting"  # will start later, or another process runs it; also a run that died and will be retried
ENDED = "ended"  # nothing more will be done; the outcome is in its folder


@dataclass(frozen=True)
class Job:
    """One run: a row of the grid with a seed."""

    row: str
    seed: int
    arguments: tuple[str, ...]  # after train.py
    folder: Path
    conflict: str = ""  # why the run in its folder cannot go on: it has another configuration, or is damaged

    @property
    def name(self) -> str:
        return f"{self.row}/seed{self.seed}"

    @property
    def console(self) -> Path:
        """The file to which the back end appends the output of the run, errors included."""
        return self.folder / "console.txt"

    @property
    def command(self) -> str:
        """The command that a user would type."""
        return f"{PROGRAM} {shlex.join(self.arguments)}"


@validated
@dataclass(frozen=True)
class Options:
    """Options of every back end."""

    jobs: Count | None = None  # runs at once; None: as many as the back end has room for
    gpus: tuple[str, ...] = ()  # GPUs to use, one run on each: values of CUDA_VISIBLE_DEVICES
    retries: Annotated[int, Ge(0)] = 2  # restarts of a run that died
    train: tuple[str, ...] = TRAIN  # the command of a run, without its arguments

    def __post_init__(self):
        require(all(self.gpus), "gpus", "names or numbers, such as 0,1", ",".join(self.gpus))


Report = Callable[[Job, str], None]  # called with a job and its new state


def make_jobs(rows: Sequence[Row], seeds: Sequence[int], folder: Path) -> list[Job]:
    """The jobs of a grid, ordered by seed, so that an interrupted grid has results for all rows."""
    return [_make_job(row, seed, folder / row.name / f"seed{seed}") for seed in seeds for row in rows]


def _make_job(row: Row, seed: int, folder: Path) -> Job:
    words, conflict = (*row.arguments, "--seed", str(seed), "--output-dir", str(folder)), ""
    try:
        result = read_result(folder)
        # The quick check first: the other one reads a whole configuration for each of hundreds of runs.
        if not result or (result.get("config"), result.get("seed")) != (row.config.digest(), seed):
            RunFolder(parse(list(words)).config())
    except BadInput as error:
        conflict = str(error)
    return Job(row.name, seed, words, folder, conflict)


def outcome(job: Job) -> str | None:
    """The recorded status: ok, diverged, interrupted, out of memory; None if nothing is recorded."""
    try:
        return str(json.loads((job.folder / "result.json").read_text())["status"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def done(job: Job) -> bool:
    """Whether the run is complete."""
    return outcome(job) in COMPLETE


def worth_retrying(job: Job, code: int) -> bool:
    """Whether a run that ended with this exit code may succeed when it is restarted.

    A full disk or a lost machine may be back; bad input stays bad, and what did not fit into memory will not.
    """
    return not done(job) and code != BAD_INPUT and outcome(job) != "out of memory"


def last_line(job: Job) -> str:
    """The last line of the run's output, or an empty string."""
    try:
        lines = job.console.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class _Backends(Registry):
    """The back ends. They are not settings of a run, so neither train.py's help nor its index lists them."""

    def _known(self) -> dict[str, Entry]:
        for error in import_all(self.package):
            raise BadInput(error)
        return self._entries


backends = _Backends("back end", "grid", given=("jobs", "options", "report"))
