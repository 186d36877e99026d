"""Runs as processes of this machine: so many at once, or one on each GPU."""

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
from typing import Protocol

from ..core.files import unwritable
from .claim import Claim, claim
from .job import ENDED, RUNNING, WAITING, Job, Options, Report, backends, done, worth_repeating

LOOK_EVERY = 0.1  # seconds between looks at the processes
ASK_EVERY = 2.0  # seconds before a run that another launcher has is asked for again
GRACE = 10.0  # seconds that a run has to end by itself


class Process(Protocol):
    """What a pool needs of a process, which has a group of its own."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...


@dataclass
class Running:
    job: Job
    claim: Claim
    process: Process
    slot: str | None  # the GPU


@backends.register("local")
def local(jobs: Sequence[Job], options: Options, report: Report) -> None:
    """Processes of this machine: `--jobs` at once, or one on each of `--gpus`."""
    Pool(jobs, options, report).run()


class Pool:
    """Jobs on their way through the slots of this machine."""

    def __init__(self, jobs: Sequence[Job], options: Options, report: Report):
        self.options, self.report = options, report
        self.waiting = deque(jobs)
        self.elsewhere: dict[Job, float] = {}  # and when to ask for them again
        self.running: list[Running] = []
        self.free: list[str | None] = list(options.gpus) or [None] * (options.jobs or 1)
        self.slots = len(self.free)
        self.tries: Counter[Job] = Counter()

    def run(self) -> None:
        """Until nothing is left to do, or an exception, as of Ctrl-C: then the processes are ended."""
        try:
            while self.waiting or self.elsewhere or self.running:
                self._start()
                self._look()
                time.sleep(LOOK_EVERY)
        finally:
            self._stop()

    def _start(self) -> None:
        now = time.monotonic()
        for job in [job for job, again in self.elsewhere.items() if again <= now]:
            del self.elsewhere[job]
            self.waiting.append(job)
        while self.free and self.waiting:
            job = self.waiting.popleft()
            if done(job):  # by another launcher
                self.report(job, ENDED)
            elif (mine := claim(job)) is None:
                self.elsewhere[job] = time.monotonic() + ASK_EVERY
                self.report(job, WAITING)
            elif done(job):  # between the two looks
                mine.release()
                self.report(job, ENDED)
            else:
                self._spawn(job, mine)

    def _spawn(self, job: Job, mine: Claim) -> None:
        slot = self.free.pop(0)
        try:
            process = self._process(job, mine, environment(self.slots, slot))
        except OSError as error:
            raise unwritable(job.console, error) from error
        self.running.append(Running(job, mine, process, slot))
        self.report(job, RUNNING)

    def _process(self, job: Job, mine: Claim, environment: dict[str, str]) -> Process:
        with open(job.console, "ab") as console:
            return subprocess.Popen(
                guarded([*self.options.train, *job.arguments]),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=[mine.file],
                process_group=0,  # a group of its own: Ctrl-C is for this process, which passes it on
            )

    def _look(self) -> None:
        for one in list(self.running):
            if not one.claim.keep():  # another machine has taken it, so it must not go on here
                _kill(one.process)
                self._end(one)
                self.elsewhere[one.job] = time.monotonic() + ASK_EVERY
                self.report(one.job, WAITING)
            elif (code := one.process.poll()) is not None:
                self._end(one)
                if code < 0:  # else the last line would be one of a run that goes well
                    with open(one.job.console, "a") as console:
                        console.write(f"killed by signal {-code}: {signal.strsignal(-code)}\n")
                again = worth_repeating(one.job, code) and self.tries[one.job] < self.options.retries
                self.tries[one.job] += 1
                if again:
                    self.waiting.append(one.job)
                self.report(one.job, WAITING if again else ENDED)

    def _end(self, one: Running) -> None:
        _kill(one.process)  # and what it may have left behind
        one.process.wait()
        one.claim.release()
        self.running.remove(one)
        self.free.append(one.slot)

    def _stop(self) -> None:
        """End what runs: politely, then not."""
        for one in self.running:
            _signal(one.process, signal.SIGTERM)
        with contextlib.suppress(KeyboardInterrupt):  # a second one is for who does not want to wait
            limit = time.monotonic() + GRACE
            while any(one.process.poll() is None for one in self.running) and time.monotonic() < limit:
                time.sleep(LOOK_EVERY)
        for one in list(self.running):
            self._end(one)


def guarded(command: Sequence[str]) -> list[str]:
    """The command as one that dies with this process."""
    return [sys.executable, "-IS", str(Path(__file__).with_name("child.py")), str(os.getpid()), *command]


def environment(slots: int, gpu: str | None) -> dict[str, str]:
    """The environment of a run: its GPU, and its share of the cores unless the user has said how many."""
    mine = dict(os.environ, PYTHONUNBUFFERED="1")  # or the last lines of one that is killed would be lost
    if slots > 1:
        mine.setdefault("OMP_NUM_THREADS", str(max(1, cores() // slots)))
    if gpu is not None:
        mine["CUDA_VISIBLE_DEVICES"] = gpu
    return mine


def cores() -> int:
    """How many cores this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def _kill(process: Process) -> None:
    _signal(process, signal.SIGKILL)


def _signal(process: Process, number: int) -> None:
    with contextlib.suppress(
        ProcessLookupError, PermissionError
    ):  # PermissionError: macOS, for one that ended
        os.killpg(process.pid, number)
