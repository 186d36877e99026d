"""A simulation of sbatch, squeue and scontrol, with a queue in the file $FAKE_SLURM.

Time passes when squeue is called: running tasks run to their end, then pending ones start. With "nodes_fail"
a killed command counts as the failure of its node, after which --requeue queues the task again.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_SLURM"])


def sbatch(words: list[str]) -> None:
    state, script = json.loads(STATE.read_text()), Path(words[-1])
    asked = re.findall(r"^#SBATCH (.*)$", script.read_text(), re.MULTILINE)
    said = dict(part.removeprefix("--").partition("=")[::2] for line in asked for part in shlex.split(line))
    said |= dict(word.removeprefix("--").partition("=")[::2] for word in words[:-1])
    if said.get("partition") == "forbidden":
        sys.exit("sbatch: error: invalid partition specified: forbidden")
    last, _, limit = said["array"].removeprefix("1-").partition("%")
    assert int(last) < state["largest"], "an array with too large an index"
    number = len(state["arrays"]) + 1
    tasks = {index: {"state": "PENDING", "code": "0:0", "starts": 0} for index in range(1, int(last) + 1)}
    state["arrays"].append({"said": said, "script": str(script), "tasks": tasks, "limit": int(limit or 999)})
    STATE.write_text(json.dumps(state))
    print(number)


def squeue(words: list[str]) -> None:
    state = json.loads(STATE.read_text())
    if state.get("away"):
        state["away"] -= 1
        STATE.write_text(json.dumps(state))
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    names = next(word for word in words if word.startswith("--name=")).removeprefix("--name=").split(",")
    for number, array in enumerate(state["arrays"], start=1):
        for index, task in array["tasks"].items():
            if array["said"]["job-name"] in names and not (
                state.get("forgets") and task["state"] == "COMPLETED"
            ):
                print(f"{array['said']['job-name']}|{number}|{index}|{task['state']}")
    ended = {n for n, array in enumerate(state["arrays"], start=1) if not unfinished(array)}
    for array in state["arrays"]:
        for index, task in array["tasks"].items():
            if task["state"] == "RUNNING":
                run(array, index, task, state.get("nodes_fail"))
        after = array["said"].get("dependency", "afterany").split(":")[1:]
        if set(map(int, after)) <= ended and not state.get("full"):
            for task in [t for t in array["tasks"].values() if t["state"] == "PENDING"][: array["limit"]]:
                task["state"] = "RUNNING"
    STATE.write_text(json.dumps(state))


def unfinished(array: dict) -> bool:
    return any(task["state"] in ("PENDING", "RUNNING") for task in array["tasks"].values())


def run(array: dict, index: str, task: dict, nodes_fail: bool) -> None:
    given = {"SLURM_ARRAY_TASK_ID": index, "SLURM_CPUS_ON_NODE": "3"}
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    output = array["said"]["output"].replace("%a", index).replace("%%", "%")
    with open(output, "a") as out:
        code = subprocess.run(
            ["bash", array["script"]],
            env=inherited | given,
            cwd=array["said"]["chdir"],
            stdout=out,
            stderr=subprocess.STDOUT,
        ).returncode
    task["starts"] += 1
    task["code"] = f"{max(code, 0)}:{max(-code, 0)}"
    again = code < 0 and nodes_fail and "requeue" in array["said"]
    task["state"] = "COMPLETED" if code == 0 else "PENDING" if again else "FAILED"


def scontrol(words: list[str]) -> None:
    state = json.loads(STATE.read_text())
    if words == ["show", "config"]:
        print(f"Configuration data\nMaxArraySize            = {state['largest']}\nMinJobAge = 300 sec")
    else:
        array, index = words[-1].split("_")
        task = state["arrays"][int(array) - 1]["tasks"][index]
        print(f"JobId=7 JobState={task['state']} ExitCode={task['code']} DerivedExitCode=0:0")


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:])
