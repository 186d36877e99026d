"""Grids on SLURM: an array job with one task for each run.

If a node fails or a task is preempted, SLURM queues the task again, and the run resumes from its last
checkpoint. All nodes must see the checkout, the data and the folder of the grid under the same paths.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from time import sleep

from filelock import FileLock

from ..core.contracts import Count
from ..core.errors import BadInput
from . import sbatch as commands
from .claim import claim
from .job import ENDED, RUNNING, WAITING, Job, Options, Report, backends, done, worth_retrying

POLL_SECONDS = 10.0  # squeue is expensive on a large cluster
NO_RETRY = ("CANCELLED", "OUT_OF_MEMORY", "DEADLINE", "REVOKED")  # by the user, or would fail again


@backends.register("slurm")
def slurm(
    jobs: Sequence[Job],
    options: Options,
    report: Report,
    wait: bool = True,  # monitor the runs until they have ended; else submit them and return
    partition: str | None = None,  # partition of the runs, as of sbatch
    time: str | None = None,  # limit of a run, such as 2:00:00; a run that reaches it is resubmitted
    cpus: Count | None = None,  # cores of a run
    gpus_per_run: str | None = None,  # GPUs of a run, such as 1 or a100:1
    mem: str | None = None,  # memory of a run, such as 16G
    sbatch: str = "",  # further options of sbatch, such as "--account=me --exclude=node7"
) -> None:
    """SLURM: an array job with one task for each run."""
    if options.gpus:
        raise BadInput("--gpus names GPUs of this machine; with --backend slurm give --gpus-per-run 1")
    commands.check_installed()
    named = {"partition": partition, "time": time, "cpus-per-task": cpus, "mem": mem}
    flags = [f"--{name}={value}" for name, value in named.items() if value is not None]
    if gpus_per_run is not None:
        flags.append(f"--gres=gpu:{gpus_per_run}")
    monitor = Monitor(jobs, options, report, [*flags, *map(shlex.quote, shlex.split(sbatch))])
    monitor.submit(monitor.jobs)
    try:
        while wait and monitor.jobs:
            sleep(POLL_SECONDS)
            monitor.poll()
    except KeyboardInterrupt:
        print("the runs stay in SLURM's queue; squeue shows them, scancel removes them")
        raise


class Monitor:
    """Submits jobs to SLURM's queue, follows them, and resubmits those that died."""

    def __init__(self, jobs: Sequence[Job], options: Options, report: Report, flags: list[str]):
        self.jobs, self.options, self.report, self.flags = list(jobs), options, report, flags
        self.folder = jobs[0].folder.parents[1]  # of the grid
        self.reported: dict[Job, str] = {}
        self.gone: set[Job] = set()  # without a live task at the last poll, and not complete
        self.restarts: Counter[Job] = Counter()
        self.progress: dict[Job, int] = {}  # of each job when it was submitted

    def submit(self, jobs: Sequence[Job]) -> None:
        """Submit the jobs that are not in the queue."""
        place = self.folder / "slurm"
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".lock"):  # of two commands at once, the second one sees the tasks of the first
            known = commands.tasks(self.folder, self.jobs, self.options)
            if known is None:
                raise BadInput("squeue gets no answer from SLURM; try again later")
            live = {job for job, task in known.items() if task.live}
            arrays = sorted({known[job].array for job in live})
            new = [job for job in jobs if job not in live]
            self._submit_arrays(new, arrays if self.options.jobs else [])
        for job in self.jobs:
            self._report(job, RUNNING if job in live and not known[job].waits else WAITING)
        others = ", the others are in the queue already" if live else ""
        print(f"SLURM: {len(new)} of {len(self.jobs)} runs submitted{others}", flush=True)

    def _submit_arrays(self, jobs: Sequence[Job], after: list[int]) -> None:
        """Submit as few arrays as possible; with --jobs, each starts after the previous one has ended."""
        size = commands.largest_array() if jobs else 1
        for start in range(0, len(jobs), size):
            part = jobs[start : start + size]
            for job in part:
                job.folder.mkdir(parents=True, exist_ok=True)  # for the console
                self.progress[job] = _progress(job)
            lines = [commands.line(job, self.options) for job in part]
            script = commands.write_array(self.folder, lines, self.options.jobs, self.flags)
            number = commands.submit(script, after)
            after = [number] if self.options.jobs else []

    def poll(self) -> None:
        """Update the state of the jobs, and resubmit those that died."""
        known = commands.tasks(self.folder, self.jobs, self.options)
        if known is None:  # the controller may come back
            return
        retries = []
        for job in list(self.jobs):
            task = known.get(job)
            if done(job):
                self._end(job)
            elif task and task.live:
                self.gone.discard(job)
                self._report(job, WAITING if task.waits else RUNNING)
            elif _claimed_elsewhere(job):
                self._report(job, WAITING)
            elif job not in self.gone:  # a shared file system may show its result late: wait for a poll
                self.gone.add(job)
            elif self._may_retry(job, task):
                self.gone.discard(job)
                retries.append(job)
            else:
                self._give_up(job, task)
        if retries:
            self.submit(retries)

    def _may_retry(self, job: Job, task: commands.Task | None) -> bool:
        if task and (task.state in NO_RETRY or not worth_retrying(job, commands.exit_code(task))):
            return False
        # A run that made progress before it reached its time limit has not failed.
        advanced = _progress(job) > self.progress.get(job, 0)
        self.restarts[job] = 0 if advanced else self.restarts[job] + 1
        return self.restarts[job] <= self.options.retries

    def _give_up(self, job: Job, task: commands.Task | None) -> None:
        # A run that failed by itself has printed the reason.
        if task and (task.state != "FAILED" or commands.exit_code(task) <= 0):
            with open(job.console, "a") as console:
                console.write(f"SLURM: task {task.array}_{task.index} is {task.state}\n")
        self._end(job)

    def _end(self, job: Job) -> None:
        self.jobs.remove(job)
        self._report(job, ENDED)

    def _report(self, job: Job, state: str) -> None:
        if self.reported.get(job) != state:
            self.reported[job] = state
            self.report(job, state)


def _claimed_elsewhere(job: Job) -> bool:
    """Whether another launcher runs the job, so that its task has ended at once."""
    held = claim(job)
    if held:
        held.release()
    return held is None


def _progress(job: Job) -> int:
    """A number that grows with the epochs of the run."""
    metrics = job.folder / "metrics.jsonl"
    return metrics.stat().st_size if metrics.exists() else 0
