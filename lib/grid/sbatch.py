"""SLURM's commands: submit arrays of runs with `sbatch`, and query their tasks.

An array is two files in the folder `slurm` of the grid: a list with one command line for each run, and a
script: its task K runs line K. The files and the tasks in the queue are named by a hash of the list, by which
a later command finds the runs that are queued already.
"""

import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import BadInput
from ..core.files import write_atomic
from .job import Job, Options

ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)
WAITS = ("CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")

SCRIPT = """\
#!/bin/bash
# {count} runs of the grid in {folder}: task K runs line K of {list}.
# By hand: sbatch {script}; complete runs end at once.
{directives}

export PYTHONUNBUFFERED=1  # so that a killed run leaves its last lines
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}}}}"
line=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {list})
eval "exec $line"
"""


@dataclass(frozen=True)
class Task:
    """A task of an array, as squeue shows it."""

    array: int
    index: int
    state: str

    @property
    def live(self) -> bool:
        return self.state not in ENDED

    @property
    def waits(self) -> bool:
        return self.state in WAITS


def check_installed() -> None:
    """Raises BadInput if SLURM's commands are missing."""
    for command in ("sbatch", "squeue", "scontrol"):
        if not shutil.which(command):
            raise BadInput(
                f"there is no {command} on this machine: log in to a machine of a SLURM cluster (Debian: "
                "apt-get install slurm-client), or give --backend local"
            )


def line(job: Job, options: Options) -> str:
    """The command of a job for the shell, which appends its output to the job's console file."""
    command = shlex.join([*options.train, *job.arguments])
    return f"{command} >> {shlex.quote(str(job.console.absolute()))} 2>&1"


def write_array(folder: Path, lines: Sequence[str], limit: int | None, flags: Sequence[str]) -> Path:
    """Write the script and the list of an array into the grid's folder, and return the script's path.

    Args:
        limit: the number of tasks at once; `flags`: further options of sbatch.
    """
    place = folder.absolute() / "slurm"
    text = "".join(f"{one}\n" for one in lines)
    digest = hashlib.sha256(f"{place}\n{text}".encode()).hexdigest()[:8]
    # In SLURM's options a comma separates names, and % begins a placeholder.
    name = f"{re.sub(r'[^a-zA-Z0-9_.+-]', '_', folder.absolute().name)}-{digest}"
    script, listed = place / f"{name}.sh", place / f"{name}.txt"
    directives = [
        f"--job-name={name}",
        f"--array=1-{len(lines)}" + (f"%{limit}" if limit else ""),
        "--requeue",  # if a node fails, queue its tasks again
        "--open-mode=append",
        # Messages of SLURM itself; the output of a run is in its console.txt.
        f'--output="{str(place).replace("%", "%%")}/{name}-%a.log"',
        f'--chdir="{Path.cwd()}"',
        *flags,
    ]
    write_atomic(listed, text)
    facts = {"count": len(lines), "folder": folder}
    facts |= {"list": shlex.quote(str(listed)), "script": shlex.quote(str(script))}
    facts["directives"] = "\n".join(f"#SBATCH {directive}" for directive in directives)
    write_atomic(script, SCRIPT.format(**facts))
    return script


def submit(script: Path, after: Sequence[int] = ()) -> int:
    """Submit the array, to start when the arrays `after` have ended, and return its number."""
    wait = [f"--dependency=afterany:{':'.join(map(str, after))}"] if after else []
    done = _run("sbatch", "--parsable", *wait, str(script))
    if done.returncode:
        raise BadInput(f"sbatch refuses {script}: {done.stderr.strip() or done.stdout.strip()}")
    return int(done.stdout.split(";")[0])


def largest_array() -> int:
    """The largest number of tasks that an array may have."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run("scontrol", "show", "config").stdout, re.MULTILINE)
    return int(found[1]) - 1 if found else 1000  # the limit holds for indices, which start at 0


def tasks(folder: Path, jobs: Sequence[Job], options: Options) -> dict[Job, Task] | None:
    """The newest task of each job that SLURM still knows; None if squeue does not answer."""
    lists = {path.stem: path.read_text().splitlines() for path in folder.glob("slurm/*.txt")}
    if not lists:
        return {}
    shown = "--noheader", "--array", "--states=all", "--format=%j|%F|%K|%T"
    done = _run("squeue", *shown, f"--name={','.join(lists)}")
    if done.returncode:
        return None
    known: dict[str, Task] = {}
    for row in done.stdout.splitlines():
        name, array, index, state = row.strip().split("|")
        task = Task(int(array), int(index), state.split()[0])
        text = lists[name][task.index - 1]
        if text not in known or (task.live, task.array) > (known[text].live, known[text].array):
            known[text] = task
    return {job: known[line(job, options)] for job in jobs if line(job, options) in known}


def exit_code(task: Task) -> int:
    """The exit code of the task's command; 1 if SLURM no longer knows it."""
    shown = _run("scontrol", "show", "job", "--oneliner", f"{task.array}_{task.index}").stdout
    found = re.search(r"\bExitCode=(\d+):(\d+)", shown)
    return int(found[1]) or -int(found[2]) if found else 1


def _run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
