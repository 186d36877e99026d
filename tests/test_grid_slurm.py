"""Grids on SLURM, with grid_train.py instead of train.py.

By default SLURM is simulated by fake_slurm.py, which runs the tasks itself; `-m slurm` starts a real one.
"""

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock

import lib.grid.slurm
import scripts.grid
from lib.grid.claim import claim
from lib.grid.job import Job
from lib.grid.slurm import Monitor
from tests.helpers import grid_train, slurm_cluster

HERE = Path(__file__).parent
TRAIN = (sys.executable, str(HERE / "helpers" / "grid_train.py"))
GRID = "base: {epochs: 5}\naxes: {lr: [0.1, 0.2, 0.3]}\nseeds: [0]\n"


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """An empty queue and a folder with a grid; returns a function that changes the behaviour of SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lib.grid.slurm, "POLL_SECONDS", 0.0)
    Path("g.yaml").write_text(GRID)
    tools = Path("tools")
    tools.mkdir()
    for name in ("sbatch", "squeue", "scontrol"):
        words = shlex.join([sys.executable, "-S", str(HERE / "helpers" / "fake_slurm.py"), name])
        (tools / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools.absolute()}:{os.environ['PATH']}")
    monkeypatch.setattr(scripts.grid, "estimate", lambda *known: "")
    state = tmp_path / "queue.json"
    monkeypatch.setenv("FAKE_SLURM", str(state))
    state.write_text(json.dumps({"arrays": [], "largest": 1001}))

    def change(**facts) -> dict:
        state.write_text(json.dumps(json.loads(state.read_text()) | facts))
        return json.loads(state.read_text())

    return change


def go(*words: str, backend: str = "slurm") -> int:
    return scripts.grid.main(["g.yaml", "--backend", backend, *words], train=TRAIN)


def steps() -> dict[str, list[str]]:
    """The steps that each run has taken."""
    return {
        str(path.parent.relative_to("runs/grids/g")): path.read_text().split()
        for path in sorted(Path("runs/grids/g").glob("*/seed*/steps.txt"))
    }


def complete() -> dict[str, str]:
    found = sorted(Path("runs/grids/g").glob("*/seed*/result.json"))
    return {
        str(path.parent.relative_to("runs/grids/g")): json.loads(path.read_text())["status"] for path in found
    }


def starts(state: dict) -> list[int]:
    return [task["starts"] for array in state["arrays"] for task in array["tasks"].values()]


def test_each_run_is_one_task_of_an_array(queue, capsys):
    assert go() == 0
    (array,) = queue()["arrays"]
    assert array["said"]["array"] == "1-3"
    assert "requeue" in array["said"]
    assert starts(queue()) == [1] * 3
    assert Counter(complete().values()) == {"ok": 3}
    assert all(done == ["0", "1", "2", "3", "4"] for done in steps().values())
    assert "SLURM: 3 of 3 runs submitted\n" in capsys.readouterr().out
    assert go() == 0
    assert len(queue()["arrays"]) == 1


def test_options_are_passed_to_sbatch(queue):
    words = "--jobs 2 --partition gpu --time 1:30:00 --cpus 4 --gpus-per-run a100:1 --mem 16G"
    assert go(*words.split(), "--sbatch=--account='my lab' --exclude=n1,n2") == 0
    said = queue()["arrays"][0]["said"]
    expected = {
        "array": "1-3%2",
        "partition": "gpu",
        "time": "1:30:00",
        "cpus-per-task": "4",
        "gres": "gpu:a100:1",
        "mem": "16G",
        "account": "my lab",
        "exclude": "n1,n2",
        "chdir": os.getcwd(),
    }
    assert {key: said[key] for key in expected} == expected


def test_a_run_has_one_thread_per_core(queue):
    assert go("--only", "lr0.1") == 0
    assert Path("runs/grids/g/lr0.1/seed0/starts.txt").read_text().split()[1] == "3"


def test_the_folder_of_a_grid_may_contain_any_character(queue):
    assert go("--only", "lr0.1", "--output-dir", "my, 50% grid's") == 0
    assert queue()["arrays"][0]["said"]["job-name"].startswith("my__50__grid_s-")
    assert list(Path("my, 50% grid's/slurm").glob("*-1.log"))


def test_the_script_can_be_submitted_by_hand(queue):
    assert go("--no-wait") == 0
    (script,) = Path("runs/grids/g/slurm").glob("*.sh")
    assert not complete()
    given = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_ON_NODE": "1"}
    assert subprocess.run(["bash", str(script)], env=os.environ | given).returncode == 0
    (listed,) = Path("runs/grids/g/slurm").glob("*.txt")
    second = shlex.split(listed.read_text().splitlines()[1])
    assert list(complete()) == ["/".join(Path(second[second.index("--output-dir") + 1]).parts[-2:])]


def test_a_run_is_requeued_if_its_node_fails(queue):
    Path("g.yaml").write_text(f"base: {{epochs: 5}}\naxes: {{lr: [0.1, {grid_train.FLAKY}]}}\nseeds: [0]\n")
    queue(nodes_fail=True)
    assert go("--retries", "0") == 0
    assert starts(queue()) == [1, 2]
    assert all(done == ["0", "1", "2", "3", "4"] for done in steps().values())


def test_a_killed_run_is_reported_or_resubmitted(queue, capsys):
    Path("g.yaml").write_text(f"base: {{epochs: 5}}\naxes: {{lr: [0.1, {grid_train.FLAKY}]}}\nseeds: [0]\n")
    assert go("--retries", "0") == 1
    assert f"lr{grid_train.FLAKY}/seed0: failed: SLURM: task 1_2 is FAILED" in capsys.readouterr().out
    (Path("runs/grids/g") / f"lr{grid_train.FLAKY}/seed0/last.txt").write_text("2")  # to die once more
    assert go("--retries", "1") == 0
    assert [array["said"]["array"] for array in queue()["arrays"]] == ["1-2", "1-1", "1-1"]
    assert steps()[f"lr{grid_train.FLAKY}/seed0"] == ["0", "1", "2", "2", "3", "4"]


def test_a_run_that_would_fail_again_is_not_resubmitted_and_stops_no_other(queue, capsys):
    bad = f"{grid_train.CRASHES}, {grid_train.REFUSED}, {grid_train.NO_MEMORY}, {grid_train.DIVERGES}"
    Path("g.yaml").write_text(f"base: {{epochs: 5}}\naxes: {{lr: [{bad}, 0.1]}}\nseeds: [0]\n")
    assert go("--retries", "2") == 1
    tasks = Counter()
    for array in queue()["arrays"]:
        lines = Path(array["script"]).with_suffix(".txt").read_text().splitlines()
        tasks.update(words[words.index("--lr") + 1] for words in map(shlex.split, lines))
    # Only the run that crashes is resubmitted.
    assert tasks == {str(grid_train.CRASHES): 3} | dict.fromkeys(bad.split(", ")[1:] + ["0.1"], 1)
    assert "refused as requested" in capsys.readouterr().out


def test_arrays_are_no_larger_than_allowed(queue):
    queue(largest=3)
    assert go() == 0
    assert [array["said"]["array"] for array in queue()["arrays"]] == ["1-2", "1-1"]
    assert all("dependency" not in array["said"] for array in queue()["arrays"])
    assert Counter(complete().values()) == {"ok": 3}


def test_with_jobs_each_array_waits_for_the_previous_one(queue):
    queue(largest=2)
    assert go("--jobs", "1") == 0
    waits = [array["said"].get("dependency") for array in queue()["arrays"]]
    assert waits == [None, "afterany:1", "afterany:2"]


def test_queued_runs_are_not_submitted_again(queue, capsys):
    assert go("--no-wait", "--only", "lr0.1") == 0
    assert "still queued or running: 1 run; rerun this command to monitor them" in capsys.readouterr().out
    assert go("--no-wait", "--only", "lr0.1") == 0
    assert len(queue()["arrays"]) == 1
    assert go() == 0
    assert [array["said"]["array"] for array in queue()["arrays"]] == ["1-1", "1-2"]
    assert starts(queue()) == [1] * 3


def test_a_grid_can_move_to_another_back_end(queue):
    assert go("--only", "lr0.1", "--jobs", "2", backend="local") == 0
    assert go() == 0
    assert queue()["arrays"][0]["said"]["array"] == "1-2"
    assert all(done == ["0", "1", "2", "3", "4"] for done in steps().values())


def test_a_run_of_another_launcher_is_waited_for(queue, monkeypatch):
    job = Job("lr0.1", 0, (), Path("runs/grids/g/lr0.1/seed0"))
    theirs, polls = claim(job), []
    # Their train.py would hold this lock, so that SLURM's task ends at once.
    lock = FileLock(job.folder / ".lock")
    lock.acquire()

    def poll(self):
        polls.append(queue()["arrays"][0]["tasks"]["1"]["state"])
        if polls.count("FAILED") == 3:
            grid_train.result(job.folder, seed=0, lr=0.1, status="ok", accuracy=50.0)
            lock.release()
            theirs.release()
        Monitor.poll(self)

    monkeypatch.setattr(lib.grid.slurm, "Monitor", type("", (Monitor,), {"poll": poll}))
    assert go("--retries", "0") == 0
    assert complete()["lr0.1/seed0"] == "ok" and "lr0.1/seed0" not in steps()


def test_a_controller_that_does_not_answer_is_waited_for(queue):
    assert go("--no-wait") == 0
    queue(away=1)
    assert go() == 2  # nothing is submitted that may be queued already
    assert len(queue()["arrays"]) == 1
    submit = Monitor.submit

    def then_away(self, jobs):
        submit(self, jobs)
        queue(away=3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "submit", then_away)
        assert go() == 0
    assert starts(queue()) == [1] * 3


def test_the_outcome_of_a_forgotten_task_is_read_from_its_folder(queue):
    queue(forgets=True)
    assert go() == 0
    assert starts(queue()) == [1] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--partition", "forbidden"], "invalid partition specified: forbidden"),
        (["--gpus", "0,1"], "--gpus-per-run"),
    ],
)
def test_a_refused_submission_is_reported_in_one_line(queue, words, message, capsys):
    assert go(*words) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1


def test_without_slurm_one_line_explains_what_to_do(queue, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert go() == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: there is no sbatch") and "--backend local" in errors
    assert errors.count("\n") == 1


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.skipif(
    not slurm_cluster.installed(), reason="apt-get install munge slurmctld slurmd slurm-client"
)
def test_a_real_cluster_completes_a_grid_with_killed_and_requeued_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lib.grid.slurm, "POLL_SECONDS", 1.0)
    rates = [0.1, 0.2, grid_train.FLAKY]
    Path("g.yaml").write_text(f"base: {{epochs: 10}}\naxes: {{lr: {rates}}}\nseeds: [0]\n")
    requeued = Path("runs/grids/g/lr0.1/seed0")
    place = tmp_path / "cluster"
    place.mkdir(mode=0o700)
    with slurm_cluster.slurm_cluster(place) as conf:
        monkeypatch.setenv("SLURM_CONF", str(conf))
        Path("hold").touch()  # so that no run ends before the requeue
        assert go("--no-wait") == 0
        slurm_cluster.until((requeued / "steps.txt").exists, place)
        command("scontrol", "requeue", "1_1")
        Path("hold").unlink()
        # SLURM would delay it for two minutes.
        slurm_cluster.until(lambda: command("squeue", "-h", "-j", "1_1", "-o", "%T") == "PENDING", place)
        command("scontrol", "update", "JobId=1_1", "StartTime=now")
        assert go() == 0
    assert set(complete().values()) == {"ok"}
    assert len((requeued / "starts.txt").read_text().splitlines()) == 2
    for done in steps().values():
        # A task that is stopped between a step and its checkpoint repeats that step.
        assert list(dict.fromkeys(done)) == [str(step) for step in range(10)]
        assert len(done) <= 11


def command(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
