"""Estimate the time that a grid will take.

From complete records of the same row and any seed where there are some; else from a few timed steps.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ..core.errors import BadInput
from ..report.records import read_records
from ..report.text import duration
from .job import Job
from .local import environment, guarded, python_path
from .spec import Row
from .timing import BUDGET, Timing

Times = Mapping[str, float]  # seconds of a run, by row


def estimate(jobs: Sequence[Job], rows: Sequence[Row], folder: Path, slots: int, gpu: str | None) -> str:
    """A line with the estimated time of the jobs, `slots` of them at a time, and its sources."""
    wanted = {job.row: row for job in jobs for row in rows if row.name == job.row}
    recorded = recorded_times(folder, wanted.values())
    rest = [row for name, row in wanted.items() if name not in recorded]
    timings, reason = time_rows(rest, slots, gpu) if rest else ({}, "")
    timed = {row: timing.seconds for row, timing in timings.items()}
    known = timed | recorded
    if not known:
        return f"time: unknown: there is no complete record, and no step could be timed: {reason}"
    mean = fmean(timed.values() or recorded.values())
    total = sum(known.get(job.row, mean) for job in jobs)
    each = duration(total / min(slots, len(jobs)))
    return f"time: about {each}, {_sources(jobs, recorded, timings, slots)}"


def _sources(jobs: Sequence[Job], recorded: Times, timings: Mapping[str, Timing], slots: int) -> str:
    """The sources of the estimate, in words."""
    by_record = sum(job.row in recorded for job in jobs)
    by_timing = sum(job.row in timings for job in jobs)
    others = len(jobs) - by_record - by_timing
    sources = [f"{by_record} runs from complete records of their rows"] if by_record else []
    if timings:
        devices = ", ".join(sorted({timing.device for timing in timings.values()}))
        sources.append(f"{by_timing} runs from a few timed steps of their rows on this machine ({devices})")
    sources += [f"{others} runs assumed to take the mean of these"] if others else []
    return f"{slots} at a time: {'; '.join(sources)}"


def recorded_times(folder: Path, rows: Sequence[Row]) -> Times:
    """By row, the mean seconds that complete runs of the same configuration took, their start included."""
    try:
        runs = read_records([folder]).runs
    except BadInput:  # no records yet
        return {}
    seconds: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        if run.status == "ok":
            parts = run.result.get("seconds", {})
            taken = sum(parts.get(part, 0.0) for part in ("start", "train", "evaluate"))
            seconds[run.setting].append(taken)
    settings = {row.name: row.config.digest() for row in rows}
    return {name: fmean(seconds[setting]) for name, setting in settings.items() if setting in seconds}


def time_rows(rows: Sequence[Row], slots: int, gpu: str | None) -> tuple[dict[str, Timing], str]:
    """Timings by row, and the reason if some are missing."""
    request = {"started": time.time(), "rows": {row.name: row.arguments for row in rows}}
    command = guarded([sys.executable, "-m", f"{__package__}.timing"])
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=4 * BUDGET,
            env=environment(slots, gpu) | python_path(),
        )
        out, error = done.stdout, done.stderr
    except subprocess.TimeoutExpired as expired:
        out, error = (expired.stdout or b"").decode(), "the first steps took too long"
    lines = [json.loads(line) for line in out.splitlines()]
    errors = [line["error"] for line in lines if "error" in line]
    reason = (errors or error.strip().splitlines()[-1:] or [""])[0]
    return {line["row"]: Timing(**line) for line in lines if "error" not in line}, reason
