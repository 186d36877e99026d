"""Runs as forks of this process: what it has imported and read is there at once, and lies in memory once.

Importing torch and all that training needs takes a processor seconds, and the images have a size: a fork has
both for nothing. But it has no thread of its parent's other than the one that forks, and CUDA refuses to
work in it once it has worked in the parent: so nothing here is computed by several threads or by CUDA before
the last run is on its way.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from ..core.errors import BadInput
from .child import die_with_parent
from .claim import Claim
from .job import Job, Options, Report
from .local import Pool

SUPPORTED = sys.platform.startswith("linux")  # elsewhere what the system itself brings does not survive it


class Forks(Pool):
    """A pool of this machine whose runs are not started as commands, but forked off.

    Args:
        train: carries out a run, in a process of its own; its exit code.
    """

    def __init__(self, jobs: Sequence[Job], options: Options, report: Report, train: Callable[[Job], int]):
        super().__init__(jobs, options, report)
        self.train = train
        tqdm.monitor_interval = 0  # else the bar has a thread, and a fork may find its lock taken for ever

    def _process(self, job: Job, mine: Claim, environment: dict[str, str]) -> "Forked":
        console = open(job.console, "a", buffering=1)  # noqa: SIM115  (open as long as the fork lives)

        def work() -> int:
            for one in self.running:  # the claims of others are not to last as long as this run
                os.close(one.claim.file)
            os.environ.update(environment)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (1, 2):
                os.dup2(console.fileno(), number)
            sys.stdout = sys.stderr = console
            tqdm.set_lock(threading.RLock())  # the one at hand is the parent's too
            return self.train(job)

        with console:
            return fork(work)


class Forked:
    """A process that was forked off, with what is used of subprocess.Popen."""

    def __init__(self, pid: int):
        self.pid, self.code = pid, None

    def poll(self) -> int | None:
        """The exit code, less than 0 for a signal; None while it runs."""
        return self._code(os.WNOHANG)

    def wait(self) -> int:
        return self._code(0)

    def _code(self, how: int) -> int | None:
        if self.code is None:
            ended, status = os.waitpid(self.pid, how)
            self.code = os.waitstatus_to_exitcode(status) if ended else None
        return self.code


def fork(work: Callable[[], int]) -> Forked:
    """Do work, which gives an exit code, in a process that has a group of its own and dies with this one."""
    parent = os.getpid()
    sys.stdout.flush()  # else what waits there would be written by both
    sys.stderr.flush()
    if pid := os.fork():
        with contextlib.suppress(OSError):  # it has ended already
            os.setpgid(pid, pid)  # both do it, for none may go on before it is done
        return Forked(pid)
    code = 1
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        die_with_parent()
        if os.getppid() == parent:
            code = work()
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # and nothing of what the parent would do at its own end


def asked(*works: Callable[[], Any]) -> list[Any]:
    """What each work gives, as JSON has it, done in forks, all at once; None of one that died.

    Raises:
        BadInput: a work did.
    """
    forks = [_asked(work) for work in works]
    answers = []
    for process, read in forks:
        with open(read) as pipe:
            answers.append(json.loads(pipe.read() or '{"answer": null}'))
        process.wait()
    for answer in answers:
        if "error" in answer:
            raise BadInput(answer["error"])
    return [answer["answer"] for answer in answers]


def _asked(work: Callable[[], Any]) -> tuple[Forked, int]:
    """The process, and the pipe that its answer comes out of."""
    read, write = os.pipe()

    def tell() -> int:
        try:
            answer = {"answer": work()}
        except BadInput as error:
            answer = {"error": str(error)}
        os.write(write, json.dumps(answer).encode())
        return 0

    process = fork(tell)
    os.close(write)
    return process, read
