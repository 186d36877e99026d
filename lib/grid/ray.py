"""Grids on Ray: each run is a task that starts a training process on a node of the cluster.

Ray restarts a task if its worker or node dies, and the run resumes from its last checkpoint. All nodes must
see the checkout, the data and the folder of the grid under the same paths.

A Ray cluster without token authentication runs the code of anyone who can reach its ports, so it is refused.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..core.contracts import Count, NonNegative
from ..core.errors import BadInput
from .job import ENDED, RUNNING, WAITING, Job, Options, Report, backends
from .local import local

POLL_SECONDS = 1.0
TOKEN = "`ray get-auth-token --generate` creates one; every node needs the same ~/.ray/auth_token"


@backends.register("ray")
def ray(
    jobs: Sequence[Job],
    options: Options,
    report: Report,
    address: str = "auto",  # of the head node: node1:6379; auto: $RAY_ADDRESS, or a local cluster
    cpus: Count = 1,  # cores of a run
    gpus_per_run: NonNegative | None = None,  # 0.5 puts two runs on each GPU; none: 1 if there are GPUs
) -> None:
    """Ray: runs on the nodes of a cluster; if a node dies, its runs move to another one."""
    if options.gpus:
        raise BadInput("--gpus names GPUs of this machine; with --backend ray give --gpus-per-run 1")
    if gpus_per_run is not None and gpus_per_run > 1 and gpus_per_run % 1:
        raise BadInput(f"--gpus-per-run must be below 1 or a whole number, got {gpus_per_run:g}")
    cluster = _connect(address)
    try:
        if gpus_per_run is None:
            gpus_per_run = 1 if cluster.cluster_resources().get("GPU") else 0
        needs = {"num_cpus": cpus, "num_gpus": gpus_per_run}
        _check_resources(cluster, needs)
        task = cluster.remote(max_retries=options.retries, **needs)(attempt)
        _run(cluster, task, jobs, options, report)
    finally:
        cluster.shutdown()  # also ends running tasks and their processes


def attempt(job: Job, options: Options, place: Path) -> None:
    """On a node: run one job as the local back end does, in a process that dies with this worker."""
    os.chdir(place)
    local([job], options, report=lambda job, state: None)


def _run(cluster, task, jobs: Sequence[Job], options: Options, report: Report) -> None:
    """Keep the allowed number of tasks running until all jobs have ended."""
    left, running, printed = deque(jobs), {}, {}
    single = replace(options, jobs=1)
    while left or running:
        while left and len(running) < (options.jobs or len(jobs)):
            job = left.popleft()
            printed[job] = _printed(job)
            running[task.remote(job, single, Path.cwd())] = job
            report(job, WAITING)
        ended, _ = cluster.wait(list(running), timeout=POLL_SECONDS)
        for job in [job for job in printed if _printed(job) != printed[job]]:
            del printed[job]
            report(job, RUNNING)
        for reference in ended:
            job = running.pop(reference)
            printed.pop(job, None)
            _check(cluster, reference, job)
            report(job, ENDED)


def _check(cluster, reference, job: Job) -> None:
    """Raises BadInput if the nodes do not share this machine's file system."""
    shared = "checkout and grid must be on a disk that all nodes share, under the same paths"
    try:
        cluster.get(reference)
    except (OSError, ImportError, BadInput) as error:  # what `attempt` raised, or its import on the node
        raise BadInput(f"a node cannot work in {Path.cwd()} ({_last(error)}); {shared}") from error
    except cluster.exceptions.RayError as error:  # its nodes or workers died too often
        with contextlib.suppress(OSError), open(job.console, "a") as console:
            console.write(f"Ray gave up on the run: {type(error).__name__}\n")
    else:
        if not job.console.exists():
            raise BadInput(f"a node has run {job.name}, but {job.folder} is not here; {shared}")


def _connect(address: str):
    """The package `ray`, connected to a cluster; BadInput if there is none, or it needs no token."""
    # Set before the import, because Ray reads it once.
    if os.environ.setdefault("RAY_AUTH_MODE", "token").lower() != "token":
        mode = os.environ["RAY_AUTH_MODE"]
        raise BadInput(f"RAY_AUTH_MODE is {mode}: Ray would run anyone's code; unset it. {TOKEN}")
    try:
        import ray as cluster
    except ImportError:
        raise BadInput(
            "Ray is not installed: pip install -e '.[ray]', or give --backend local or --backend slurm"
        ) from None
    try:
        _check_reachable((os.environ.get("RAY_ADDRESS") or address) if address == "auto" else address)
        context = cluster.init(address=address, log_to_driver=False, logging_level="ERROR")
    except cluster.exceptions.AuthenticationError as error:
        raise BadInput(f"Ray has no token, or not that of the cluster; {TOKEN}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"no Ray cluster accepts this token at {address} ({_last(error)}); start one with "
            "`RAY_AUTH_MODE=token ray start --head`, give --address HOST:PORT, or use --backend local"
        ) from error
    if _needs_no_token(context.address_info["gcs_address"]):
        cluster.shutdown()
        raise BadInput(
            "this Ray cluster accepts work without a token, from anyone who can reach its ports; restart all "
            f"its nodes with RAY_AUTH_MODE=token. {TOKEN}"
        )
    return cluster


def _check_reachable(address: str) -> None:
    """Raises OSError or ValueError if nothing listens there; Ray itself would try for ten minutes."""
    host, _, port = address.rpartition(":")
    if address != "auto":
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _last(error: Exception) -> str:
    """The last line of the message: Ray puts a traceback before it."""
    return (str(error).splitlines() or [repr(error)])[-1]


def _needs_no_token(address: str) -> bool:
    """Whether the cluster answers a request without a token."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


def _check_resources(cluster, needs: dict[str, float]) -> None:
    """Refuse resources that no node has, for which Ray would wait forever."""
    nodes = [node["Resources"] for node in cluster.nodes() if node["Alive"]]
    cpus, gpus = needs["num_cpus"], needs["num_gpus"]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        available = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise BadInput(
            f"a run needs {cpus:g} cores and {gpus:g} GPUs, but no node has them; the nodes have {available}"
        )


def _printed(job: Job) -> int | None:
    """The number of bytes that the run has printed; None before it has started."""
    return job.console.stat().st_size if job.console.exists() else None
