"""Grids on SLURM: an array of tasks, of which each is a run.

A task whose node fails, or that is preempted, is queued again by SLURM and goes on at its newest checkpoint.
All nodes must see the checkout, the data and the folder of the grid under the same paths.
"""

import fcntl
import shlex
from collections import Counter
from collections.abc import Sequence
from time import sleep

from ..core.errors import BadInput
from . import sbatch as commands
from .claim import claim
from .job import ENDED, RUNNING, WAITING, Job, Options, Report, backends, done, worth_repeating

LOOK_EVERY = 10.0  # seconds: squeue is a burden on a large cluster
NO_REPEAT = ("CANCELLED", "OUT_OF_MEMORY", "DEADLINE", "REVOKED")  # by the user, or no better the next time


@backends.register("slurm")
def slurm(
    jobs: Sequence[Job],
    options: Options,
    report: Report,
    wait: bool = True,  # watch the runs until they have ended; else submit them and return
    partition: str | None = None,  # where the runs go, as of sbatch
    time: str | None = None,  # limit of a run, as 2:00:00; a run that meets it is queued again, and goes on
    cpus: int | None = None,  # cores of a run
    gpus_per_run: str | None = None,  # GPUs of a run, as 1 or a100:1
    mem: str | None = None,  # memory of a run, as 16G
    sbatch: str = "",  # further options of sbatch, as "--account=me --exclude=node7"
) -> None:
    """SLURM: an array job, a task of it each run."""
    if options.gpus:
        raise BadInput("--gpus names GPUs of this machine; with --backend slurm give --gpus-per-run 1")
    commands.check_installed()
    named = {"partition": partition, "time": time, "cpus-per-task": cpus, "mem": mem}
    asked = [f"--{name}={value}" for name, value in named.items() if value is not None]
    if gpus_per_run is not None:
        asked.append(f"--gres=gpu:{gpus_per_run}")
    watch = Watch(jobs, options, report, [*asked, *map(shlex.quote, shlex.split(sbatch))])
    watch.queue(watch.jobs)
    try:
        while wait and watch.jobs:
            sleep(LOOK_EVERY)
            watch.look()
    except KeyboardInterrupt:
        print("the runs stay in SLURM's queue; squeue shows them, scancel takes them out")
        raise


class Watch:
    """Jobs on their way through SLURM's queue."""

    def __init__(self, jobs: Sequence[Job], options: Options, report: Report, asked: list[str]):
        self.jobs, self.options, self.report, self.asked = list(jobs), options, report, asked
        self.folder = jobs[0].folder.parents[1]  # of the grid
        self.told: dict[Job, str] = {}
        self.missed: set[Job] = set()  # ended by the last look, and not complete
        self.tries: Counter[Job] = Counter()
        self.got: dict[Job, int] = {}  # how far a job had come when it was queued

    def queue(self, jobs: Sequence[Job]) -> None:
        """Submit those that are not in the queue.

        Raises:
            BadInput: SLURM does not answer, or refuses.
        """
        place = self.folder / "slurm"
        place.mkdir(parents=True, exist_ok=True)
        with open(place / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two commands at once, the later one sees what the first did
            known = commands.tasks(self.folder, self.jobs, self.options)
            if known is None:
                raise BadInput("squeue gets no answer from SLURM; try again when `squeue` gives one")
            live = {job for job, task in known.items() if task.live}
            arrays = sorted({known[job].array for job in live})
            new = [job for job in jobs if job not in live]
            self._submit(new, arrays if self.options.jobs else [])
        for job in self.jobs:
            self._tell(job, RUNNING if job in live and not known[job].waits else WAITING)
        others = ", the others are in the queue already" if live else ""
        print(f"SLURM: {len(new)} of {len(self.jobs)} runs submitted{others}", flush=True)

    def _submit(self, jobs: Sequence[Job], after: list[int]) -> None:
        """In as few arrays as are allowed; where few jobs may run at once, one array after the other."""
        size = commands.largest_array() if jobs else 1
        for start in range(0, len(jobs), size):
            part = jobs[start : start + size]
            for job in part:
                job.folder.mkdir(parents=True, exist_ok=True)  # for the console
                self.got[job] = _progress(job)
            lines = [commands.line(job, self.options) for job in part]
            script = commands.write_array(self.folder, lines, self.options.jobs, self.asked)
            number = commands.submit(script, after)
            after = [number] if self.options.jobs else []

    def look(self) -> None:
        """What has become of the jobs; those that died are queued again."""
        known = commands.tasks(self.folder, self.jobs, self.options)
        if known is None:  # its controller may be on its way back
            return
        again = []
        for job in list(self.jobs):
            task = known.get(job)
            if done(job):
                self._end(job)
            elif task and task.live:
                self.missed.discard(job)
                self._tell(job, WAITING if task.waits else RUNNING)
            elif _elsewhere(job):
                self._tell(job, WAITING)
            elif job not in self.missed:  # what it wrote may still be on its way here from another machine
                self.missed.add(job)
            elif self._may_repeat(job, task):
                self.missed.discard(job)
                again.append(job)
            else:
                self._give_up(job, task)
        if again:
            self.queue(again)

    def _may_repeat(self, job: Job, task: commands.Task | None) -> bool:
        if task and (task.state in NO_REPEAT or not worth_repeating(job, commands.exit_code(task))):
            return False
        # One that got further before it met its limit of time has not failed.
        self.tries[job] = 0 if _progress(job) > self.got.get(job, 0) else self.tries[job] + 1
        return self.tries[job] <= self.options.retries

    def _give_up(self, job: Job, task: commands.Task | None) -> None:
        # A run that failed by itself has said why.
        if task and (task.state != "FAILED" or commands.exit_code(task) <= 0):
            with open(job.console, "a") as console:
                console.write(f"SLURM: task {task.array}_{task.index} is {task.state}\n")
        self._end(job)

    def _end(self, job: Job) -> None:
        self.jobs.remove(job)
        self._tell(job, ENDED)

    def _tell(self, job: Job, state: str) -> None:
        if self.told.get(job) != state:
            self.told[job] = state
            self.report(job, state)


def _elsewhere(job: Job) -> bool:
    """Whether another launcher has the run, which made its task end at once."""
    mine = claim(job)
    if mine:
        mine.release()
    return mine is None


def _progress(job: Job) -> int:
    """Grows with the epochs of the run."""
    try:
        return (job.folder / "metrics.jsonl").stat().st_size
    except OSError:
        return 0
