"""A run of a grid as back ends see it: a command line, a folder, and what has become of it.

A back end is a function in a file of this package, registered by name, that carries out jobs and returns when
nothing more will be done:

    @backends.register("slurm")
    def slurm(jobs: Sequence[Job], options: Options, report: Report, partition: str | None = None) -> None:

What it takes beside these three are its own flags: `--backend slurm --partition gpu`. It is given only jobs
that are not done. A job that fails is no error of the back end: what has become of a run is read from its
folder.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import require
from ..core.registry import Entry, Registry
from ..store.run_folder import COMPLETE

BAD_INPUT = 2  # the exit code of a run that would be refused again

# What a back end reports of a job.
RUNNING = "running"  # it has been started, or goes on after it died
WAITING = "waiting"  # it will start later, or another process has it; also when a run that died comes again
ENDED = "ended"  # nothing more will be done with it: its folder tells how it ended


@dataclass(frozen=True)
class Job:
    """One run: a row of the grid with a seed."""

    row: str
    seed: int
    arguments: tuple[str, ...]  # after train.py
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.row}/seed{self.seed}"

    @property
    def console(self) -> Path:
        """What the run prints goes to the end of this file, errors included; the back end sees to it."""
        return self.folder / "console.txt"


@dataclass(frozen=True)
class Options:
    """What holds whatever carries out the runs."""

    jobs: int | None = None  # so many at once; None: as many as the back end has room for
    gpus: tuple[str, ...] = ()  # those to use, a run on each: what CUDA_VISIBLE_DEVICES is set to
    retries: int = 2  # so often a run that died is started again, at most
    train: tuple[str, ...] = (sys.executable, str(Path(__file__).parents[2] / "train.py"))  # the command

    def __post_init__(self):
        require(self.jobs is None or self.jobs > 0, "jobs", "at least 1", self.jobs)
        require(self.retries >= 0, "retries", "at least 0", self.retries)
        require(all(self.gpus), "gpus", "names or numbers, as 0,1", ",".join(self.gpus))


Report = Callable[[Job, str], None]


def outcome(job: Job) -> str | None:
    """How the run ended: ok, diverged, interrupted, out of memory; None where nothing is written of it."""
    try:
        return str(json.loads((job.folder / "result.json").read_text())["status"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def done(job: Job) -> bool:
    """Whether the run is complete, so that nothing is left to do."""
    return outcome(job) in COMPLETE


def worth_repeating(job: Job, code: int) -> bool:
    """Whether a run that ended with this exit code may do better when it is started again.

    What killed it may be gone, as a full disk or a machine that was taken away; bad input stays bad, and what
    did not fit into memory fits no better.
    """
    return not done(job) and code != BAD_INPUT and outcome(job) != "out of memory"


def last_line(job: Job) -> str:
    """The last line that the run printed; an empty string where there is none."""
    try:
        lines = job.console.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class _Backends(Registry):
    """The back ends. They are no settings of a run, so train.py's help and its index have nothing of them."""

    def _known(self) -> dict[str, Entry]:
        return self.load()


backends = _Backends("back end", "grid", given=("jobs", "options", "report"))
