"""A SLURM cluster of one node on this machine, with separate daemons, keys and ports."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
SBIN = os.pathsep.join(
    ("/usr/sbin", "/usr/local/sbin", "/sbin")
)  # the daemons are there, which is not in the PATH of users

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SlurmdParameters=config_overrides
"""


def installed() -> bool:
    path = f"{os.environ['PATH']}{os.pathsep}{SBIN}"
    return all(shutil.which(name, path=path) for name in (*DAEMONS, "sbatch", "squeue", "scontrol"))


@contextlib.contextmanager
def slurm_cluster(place: Path) -> Iterator[Path]:
    """Start the daemons, yield the file for $SLURM_CONF, and end them again."""
    for name in ("state", "spool"):
        (place / name).mkdir()
    key = place / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf = place / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    conf.write_text(CONF.format(place=place, host=host, ports=free_ports(2), user=getpass.getuser()))
    munge = [f"--{name}-file={place}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    commands = (
        ["munged", "--foreground", "--force", f"--socket={place}/munge.socket", *munge],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    )
    given = os.environ | {"PATH": f"{os.environ['PATH']}{os.pathsep}{SBIN}", "SLURM_CONF": str(conf)}
    started = []
    try:
        for command in commands:
            log = open(place / f"{command[0]}.out", "wb")  # noqa: SIM115
            started.append(subprocess.Popen(command, env=given, stdout=log, stderr=subprocess.STDOUT))
            if command[0] == "munged":
                until(lambda: (place / "munge.socket").exists(), place)
        until(lambda: _output(["sinfo", "-h", "-o", "%T"], given) == "idle", place)
        yield conf
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(holds: Callable[[], bool], place: Path, seconds: float = 120.0) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in place.glob("*.log"))
        assert time.monotonic() < limit, logs
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()
