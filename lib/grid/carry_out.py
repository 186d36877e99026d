"""A grid on its way: its jobs, what is shown while they run, and what is told in the end."""

import fnmatch
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ..config.cli import parse
from ..core.errors import BadInput
from ..report.published import accuracies
from ..report.records import read_records
from ..report.render import render
from ..report.summarise import summarise
from ..store.run_folder import COMPLETE, RunFolder, read_result
from .estimate import duration
from .job import ENDED, RUNNING, Job, done, last_line, outcome
from .spec import Grid, Row, among


def jobs_of(rows: Sequence[Row], seeds: Sequence[int], folder: Path) -> list[Job]:
    """Seed after seed, so that a grid that is cut short has all its rows.

    Raises:
        BadInput: the folder of a run holds another one.
    """
    return [_job(row, seed, folder / row.name / f"seed{seed}") for seed in seeds for row in rows]


def _job(row: Row, seed: int, folder: Path) -> Job:
    words = (*row.arguments, "--seed", str(seed), "--output-dir", str(folder))
    result = read_result(folder)
    # The short answer first: the long one reads a whole configuration, of hundreds of runs.
    if not result or (result.get("config"), result.get("seed")) != (row.config.digest(), seed):
        RunFolder(parse(list(words)).config())
    return Job(row.name, seed, words, folder)


def chosen(rows: Sequence[Row], pattern: str | None) -> list[Row]:
    """The rows whose name matches one of the shell patterns, which commas separate."""
    if pattern is None:
        return list(rows)
    patterns = pattern.split(",")
    found = [row for row in rows if any(fnmatch.fnmatchcase(row.name, p.strip()) for p in patterns)]
    if not found:
        raise BadInput(f"--only {pattern} matches no row; {among([row.name for row in rows])}")
    return found


def command(job: Job) -> str:
    """What a user would type."""
    return shlex.join(["python", "train.py", *job.arguments])


@dataclass
class Progress:
    """A bar on a terminal, and a line for each run that has ended."""

    jobs: Sequence[Job]
    running: dict[str, None] = field(default_factory=dict)
    left: set[Job] = field(default_factory=set)  # of what a back end has spoken of, and not as ended
    ended: int = 0

    def __enter__(self) -> "Progress":
        self.bar = tqdm(total=len(self.jobs), unit="run", disable=None, file=sys.stdout)
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def report(self, job: Job, state: str) -> None:
        """What a back end has to say."""
        self.running.pop(job.name, None)
        self.left.add(job)
        if state == RUNNING:
            self.running[job.name] = None
        elif state == ENDED:
            self.left.discard(job)
            self.ended += 1
            self.bar.update()
            tqdm.write(f"[{self.ended}/{len(self.jobs)}] {job.name}: {told(job)}")
        self.bar.set_postfix_str(", ".join(self.running))


def told(job: Job) -> str:
    """How a run has ended, in a few words."""
    result = read_result(job.folder) if done(job) else None
    if not result:
        return f"failed: {last_line(job) or 'it printed nothing'}"
    if result["status"] != "ok":
        return result["status"]
    seconds = result["seconds"]["train"] + result["seconds"]["evaluate"]
    return f"{result['test_accuracy']:.2f} % in {duration(seconds)}"


def summary(jobs: Sequence[Job], grid: Grid, folder: Path, trial: bool = False) -> str:
    """The table of all that is there, and what is missing, with the commands that repeat it.

    A trial is no result, so nothing published stands beside it.
    """
    try:
        published = {} if trial else accuracies((row.name, row.published) for row in grid.rows)
        lines = [render(summarise(read_records([folder]), grid.baseline, published=published), "md")]
    except BadInput as error:
        lines = [f"no table: {error}"]
    return "\n".join([*lines, *failures(jobs)])


def failures(jobs: Sequence[Job]) -> list[str]:
    """Of each run that has not ended well how it did, and the command that repeats it."""
    lines = []
    for job in jobs:
        if (how := outcome(job)) != "ok":
            said = how if how in COMPLETE else f"{how or 'failed'}: {last_line(job) or 'it printed nothing'}"
            lines += [f"{job.name}: {said}", f"  {command(job)}"]
    return lines
