"""The states of a grid's runs: to list them, and to delete runs that are started again or given up."""

import fnmatch
import shutil
from collections import Counter
from collections.abc import Sequence

from ..core.errors import BadInput, nearest
from ..report.text import aligned, count
from .claim import claim, is_running
from .job import Job, done, last_line, outcome
from .progress import describe

FAILED = ("failed", "diverged", "out of memory")  # an interrupted run has not failed: it resumes


def state(job: Job) -> str:
    """`ok`, another recorded outcome, `changed`, `running`, `failed` without a record, or `not started`."""
    if job.conflict:
        return "changed"
    if status := outcome(job):
        return status
    if is_running(job):
        return "running"
    return "failed" if last_line(job) or (job.folder / "config.yaml").exists() else "not started"


def status(jobs: Sequence[Job]) -> str:
    """A line for each run, and the number of runs in each state."""
    states = {job: state(job) for job in jobs}
    lines = [(job.name, found.ljust(13), _detail(job, found)) for job, found in states.items()]
    width = max(len(detail) for *_, detail in lines)
    totals = ", ".join(f"{n} {found}" for found, n in Counter(states.values()).items())
    table = aligned([(name, found, detail.ljust(width)) for name, found, detail in lines])
    return f"{table}\n{count(len(jobs), 'run')}: {totals}"


def _detail(job: Job, found: str) -> str:
    if found == "changed":
        return job.conflict
    if done(job):
        return describe(job)
    return last_line(job) if found in FAILED else ""


def changed(jobs: Sequence[Job]) -> BadInput:
    """The error for runs that cannot go on, all at once, with what to do."""
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        reasons.setdefault(job.row, []).append(job.conflict)
    rows = "; ".join(f"{row} ({count(len(found), 'run')}): {found[0]}" for row, found in reasons.items())
    return BadInput(
        f"rows that have changed since they ran are left out: {', '.join(reasons)}; to delete their runs and "
        f"start them again, give --redo {','.join(reasons)}. {rows}"
    )


def select_runs(jobs: Sequence[Job], flag: str, text: str) -> list[Job]:
    """The runs that an option names: `failed`, `changed`, or patterns of rows or runs, by commas."""
    wanted = [part.strip() for part in text.split(",")]
    known = {job: (job.row, job.name, "failed" if state(job) in FAILED else state(job)) for job in jobs}
    for part in wanted:
        names = {name for of in known.values() for name in of}
        if part not in ("failed", "changed") and not fnmatch.filter(names, part):
            hint = nearest(part, names) or "give failed, changed, or names of rows"
            raise BadInput(f"{flag} {part} matches no run: {hint}")
    return [job for job, of in known.items() if any(fnmatch.filter(of, part) for part in wanted)]


def delete(jobs: Sequence[Job]) -> None:
    """Delete the folders of these runs; BadInput if one of them is running."""
    for job in jobs:
        if not job.folder.exists():
            continue
        if (held := claim(job)) is None:
            raise BadInput(f"{job.name} is running; end it before it is deleted")
        try:
            shutil.rmtree(job.folder)
        except OSError as error:
            raise BadInput(f"cannot delete {job.folder}: {error.strerror or error}") from error
        finally:
            held.release()
