"""Grids on Ray: each run is a task, which trains in a process of its own on one of the cluster's nodes.

Ray starts a task again whose worker or node has died, and the run goes on at its newest checkpoint. All nodes
must see the checkout, the data and the folder of the grid under the same paths.

A Ray cluster without tokens carries out the code of anybody who reaches its ports, so it is refused.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lib.errors import BadInput, require
from lib.grid.job import ENDED, RUNNING, WAITING, Job, Options, Report, backends, done, worth_repeating

POLL = 1.0  # seconds between two looks at what has begun
PATIENCE = 300.0  # seconds in which the processes of a lost node, or their locks on a shared disk, are gone
TOKEN = "`ray get-auth-token --generate` makes one; every node needs the same ~/.ray/auth_token"


@backends.register("ray")
def ray(
    jobs: Sequence[Job],
    options: Options,
    report: Report,
    address: str = "auto",  # of the cluster's head, as 10.0.0.1:6379; auto: $RAY_ADDRESS, or one on this machine
    cpus: float = 1,  # cores of a run
    gpus_per_run: float | None = None,  # GPUs of a run, 0.5 for two runs on each; none: 1 where there are GPUs
) -> None:
    """Ray: runs go to the nodes of a cluster, and to another node where one dies."""
    require(cpus > 0, "cpus", "positive", cpus)
    require(gpus_per_run is None or gpus_per_run >= 0, "gpus_per_run", "0 or more", gpus_per_run)
    cluster = _connect(address)
    try:
        if gpus_per_run is None:
            gpus_per_run = 1 if cluster.cluster_resources().get("GPU") else 0
        needs = {"num_cpus": cpus, "num_gpus": gpus_per_run}
        _check_room(cluster, needs)
        task = cluster.remote(max_retries=options.retries, **needs)(attempt)
        _carry_out(cluster, task, jobs, options, report)
    finally:
        cluster.shutdown()  # tasks that run end with it, and their processes with them


def attempt(job: Job, command: tuple[str, ...], place: Path) -> int:
    """On a node: train until the run ends; its exit code, or minus the signal that ended it."""
    end = time.monotonic() + PATIENCE
    while _taken(job.folder) and time.monotonic() < end:
        time.sleep(POLL)
    if done(job):
        return 0
    job.folder.mkdir(parents=True, exist_ok=True)
    libc, parent = ctypes.CDLL(None), os.getpid()

    def die_with_the_worker() -> None:
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, of Linux
        if os.getppid() != parent:
            os._exit(1)

    with job.console.open("a") as console:
        return subprocess.run(
            [*command, *job.arguments],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_the_worker,
        ).returncode


def _carry_out(cluster, task, jobs: Sequence[Job], options: Options, report: Report) -> None:
    """Keep as many tasks going as are allowed, until none is left."""
    left, running, begun, tries = deque(jobs), {}, {}, Counter()
    while left or running:
        while left and len(running) < (options.jobs or len(jobs)):
            job = left.popleft()
            tries[job] += 1
            begun[job] = _printed(job)
            # Paths are relative to the folder that this program was started in; nodes start elsewhere.
            there = replace(job, folder=job.folder.absolute())
            running[task.remote(there, options.train, Path.cwd())] = job
            report(job, WAITING)
        ended, _ = cluster.wait(list(running), timeout=POLL)
        for job in [job for job in running.values() if job in begun and _printed(job) != begun[job]]:
            del begun[job]
            report(job, RUNNING)
        for reference in ended:
            job = running.pop(reference)
            code = _exit_code(cluster, reference)
            if tries[job] <= options.retries and worth_repeating(job, code):
                left.append(job)
            else:
                report(job, ENDED)


def _exit_code(cluster, reference) -> int:
    """Of the run; -SIGKILL where Ray has given up on it.

    Raises:
        BadInput: the nodes do not see what this machine sees.
    """
    try:
        return cluster.get(reference)
    except (OSError, ImportError) as error:  # raised by `attempt`, or in the import of this file there
        what = str(error).splitlines()[-1]
        raise BadInput(
            f"a node cannot run {Path.cwd()}/train.py ({what}); the checkout and the grid's folder must lie on "
            "a disk that all nodes share, under the same paths"
        ) from error
    except cluster.exceptions.RayError:
        return -signal.SIGKILL


def _connect(address: str):
    """The package `ray`, connected to a cluster.

    Raises:
        BadInput: it is not installed, or there is no cluster, or one without tokens.
    """
    # Before the import, since Ray reads it once.
    if os.environ.setdefault("RAY_AUTH_MODE", "token").lower() != "token":
        mode = os.environ["RAY_AUTH_MODE"]
        raise BadInput(f"RAY_AUTH_MODE is {mode}: Ray would run anybody's code; unset it. {TOKEN}")
    try:
        import ray as cluster
    except ImportError:
        raise BadInput(
            "Ray is not installed: pip install -e '.[ray]', or give --backend local or --backend slurm"
        ) from None
    try:
        context = cluster.init(address=address, log_to_driver=False, logging_level="ERROR")
    except cluster.exceptions.AuthenticationError as error:
        raise BadInput(f"Ray has no token, or not the cluster's; {TOKEN}") from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"no Ray cluster answers at {address} with this token; start one with `RAY_AUTH_MODE=token ray start "
            "--head`, give --address HOST:PORT, or use --backend local"
        ) from error
    if _open_to_anybody(context.address_info["gcs_address"]):
        cluster.shutdown()
        raise BadInput(
            "this Ray cluster takes work without a token, from anybody who reaches its ports; start all its "
            f"nodes anew with RAY_AUTH_MODE=token. {TOKEN}"
        )
    return cluster


def _open_to_anybody(address: str) -> bool:
    """Whether the cluster answers who comes without a token."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


def _check_room(cluster, needs: dict[str, float]) -> None:
    """Refuse what no node has, for which Ray would wait without end."""
    nodes = [node["Resources"] for node in cluster.nodes() if node["Alive"]]
    cpus, gpus = needs["num_cpus"], needs["num_gpus"]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        has = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise BadInput(f"a run asks for {cpus:g} cores and {gpus:g} GPUs, but no node has them; they have {has}")


def _printed(job: Job) -> int | None:
    """How many bytes the run has printed; None before it has begun."""
    try:
        return job.console.stat().st_size
    except OSError:
        return None


def _taken(folder: Path) -> bool:
    """Whether a process trains in the folder."""
    try:
        with open(folder / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go when the file is closed
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
