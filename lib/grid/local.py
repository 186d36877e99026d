"""Runs as processes of this machine: a fixed number at once, or one on each GPU."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import BadInput
from ..core.files import unwritable
from .claim import Claim, claim
from .job import ENDED, ROOT, RUNNING, WAITING, Job, Options, Report, backends, done, worth_retrying

POLL_SECONDS = 0.1
CLAIM_SECONDS = 2.0  # between attempts to claim a job that another launcher runs
GRACE_SECONDS = 10.0  # that a run has to end after SIGTERM


@dataclass
class Running:
    job: Job
    claim: Claim
    process: subprocess.Popen
    slot: str | None  # the GPU


@backends.register("local")
def local(jobs: Sequence[Job], options: Options, report: Report) -> None:
    """Processes of this machine: `--jobs` at once, or one on each of `--gpus`."""
    ProcessPool(jobs, options, report).run()


class ProcessPool:
    """Runs jobs as processes, at most one in each slot."""

    def __init__(self, jobs: Sequence[Job], options: Options, report: Report):
        if os.name != "posix":
            raise BadInput("grids and --seeds need Linux or macOS; on Windows use WSL")
        self.options, self.report = options, report
        self.queue = deque(jobs)
        self.claimed_elsewhere: dict[Job, float] = {}  # the time of the next attempt to claim each
        self.running: list[Running] = []
        self.free: list[str | None] = list(options.gpus) or [None] * (options.jobs or 1)
        self.slots = len(self.free)
        self.restarts: Counter[Job] = Counter()

    def run(self) -> None:
        """Run until nothing is left to do. An exception, such as Ctrl-C, first ends all processes."""
        try:
            while self.queue or self.claimed_elsewhere or self.running:
                self._start()
                self._poll()
                time.sleep(POLL_SECONDS)
        finally:
            self._stop()

    def _start(self) -> None:
        """Start jobs in the free slots."""
        now = time.monotonic()
        for job in [job for job, again in self.claimed_elsewhere.items() if again <= now]:
            del self.claimed_elsewhere[job]
            self.queue.append(job)
        while self.free and self.queue:
            job = self.queue.popleft()
            if done(job):  # by another launcher
                self.report(job, ENDED)
            elif (held := claim(job)) is None:
                self._wait_for_claim(job)
            elif done(job):  # between the check and the claim
                held.release()
                self.report(job, ENDED)
            else:
                self._spawn(job, held)

    def _wait_for_claim(self, job: Job) -> None:
        self.claimed_elsewhere[job] = time.monotonic() + CLAIM_SECONDS
        self.report(job, WAITING)

    def _spawn(self, job: Job, held: Claim) -> None:
        slot = self.free.pop(0)
        try:
            with open(job.console, "ab") as console:
                process = subprocess.Popen(
                    guarded([*self.options.train, *job.arguments]),
                    env=environment(self.slots, slot),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # Ctrl-C then reaches only this process, which ends the runs in order
                )
        except OSError as error:
            raise unwritable(job.console, error) from error
        self.running.append(Running(job, held, process, slot))
        self.report(job, RUNNING)

    def _poll(self) -> None:
        """Handle the processes that have ended, and those that lost their claim."""
        for run in list(self.running):
            if not run.claim.renew():  # another machine runs this job now
                self._end(run)
                self._wait_for_claim(run.job)
            elif (code := run.process.poll()) is not None:
                self._end(run)
                self._retry_or_report(run.job, code)

    def _retry_or_report(self, job: Job, code: int) -> None:
        if code < 0:  # the run could not print the reason itself
            with open(job.console, "a") as console:
                console.write(f"killed by signal {-code}: {signal.strsignal(-code)}\n")
        retry = worth_retrying(job, code) and self.restarts[job] < self.options.retries
        self.restarts[job] += 1
        if retry:
            self.queue.append(job)
        self.report(job, WAITING if retry else ENDED)

    def _end(self, run: Running) -> None:
        _signal(run.process, signal.SIGKILL)  # also ends what the run may have started and left running
        run.process.wait()
        run.claim.release()
        self.running.remove(run)
        self.free.append(run.slot)

    def _stop(self) -> None:
        """End all runs: SIGTERM, a grace period, then SIGKILL."""
        for run in self.running:
            _signal(run.process, signal.SIGTERM)
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C ends the grace period
            limit = time.monotonic() + GRACE_SECONDS
            while any(run.process.poll() is None for run in self.running) and time.monotonic() < limit:
                time.sleep(POLL_SECONDS)
        for run in list(self.running):
            self._end(run)


def guarded(command: Sequence[str]) -> list[str]:
    """The command, as one that dies with this process."""
    return [sys.executable, "-IS", str(Path(__file__).with_name("guard.py")), str(os.getpid()), *command]


def environment(slots: int, gpu: str | None) -> dict[str, str]:
    """The environment of a run: its GPU, and its fraction of the cores unless OMP_NUM_THREADS is set."""
    variables = dict(os.environ, PYTHONUNBUFFERED="1")  # so that a killed run leaves its last lines
    if slots > 1:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // slots)))
    if gpu is not None:
        variables["CUDA_VISIBLE_DEVICES"] = gpu
    return variables


def python_path() -> dict[str, str]:
    """The environment variable by which a new process finds this package before those of the user's path."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}  # an empty one would be the current folder


def cpu_count() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _signal(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS denies permission for ended ones
        os.killpg(process.pid, number)
