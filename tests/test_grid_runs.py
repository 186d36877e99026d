"""Grids on this machine: killed runs resume, a failing run stops no other, and no run is done twice.

All tests but the last one start grid_train.py instead of train.py.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

import scripts.grid
import train
from lib.grid import claim, guard
from lib.grid.job import Job, Options
from lib.grid.local import environment, python_path
from lib.grid.spec import read_grid
from tests.helpers.grids import alive, wait_until
from tests.helpers.runs import TINY

ROOT = Path(__file__).parent.parent
FAKE = (sys.executable, str(ROOT / "tests/helpers/grid_train.py"))
REAL = Options.train
LAUNCHER = """\
import signal, sys, scripts.grid
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background processes
scripts.grid.estimate = lambda *known: ""
scripts.grid.end_gracefully()
sys.exit(scripts.grid.main(sys.argv[2:], train=tuple(sys.argv[1].split())))
"""
LAUNCHED: list[subprocess.Popen] = []
GRID = "base: {epochs: 20}\naxes: {lr: [0.1, 0.2, 0.3]}\nseeds: 0..1\n"
STEPS = [str(step) for step in range(20)]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scripts.grid, "estimate", lambda *known: "")
    Path("g.yaml").write_text(GRID)
    yield
    for launcher in LAUNCHED:  # may still be running if the test has failed
        launcher.kill()
        launcher.wait()
    LAUNCHED.clear()


def go(*words: str) -> int:
    return scripts.grid.main(["g.yaml", *words], train=FAKE)


def launch(*words: str, command: tuple[str, ...] = FAKE) -> subprocess.Popen:
    """Start `python -m scripts.grid g.yaml` in the background."""
    with open("output.txt", "ab") as output:
        launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, " ".join(command), "g.yaml", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    LAUNCHED.append(launcher)
    return launcher


def folders() -> list[Path]:
    return sorted(Path("runs/grids/g").glob("*/seed*"))


def lines(folder: Path, file: str) -> list[str]:
    return (folder / file).read_text().splitlines() if (folder / file).exists() else []


def accuracies() -> dict[str, float]:
    ended = [folder for folder in folders() if (folder / "result.json").exists()]
    return {str(f): json.loads((f / "result.json").read_text())["test_accuracy"] for f in ended}


def workers() -> list[int]:
    return [int(line.split()[0]) for folder in folders() for line in lines(folder, "starts.txt")]


def held() -> int:
    """The number of runs that wait at the step at which the file `hold` stops them."""
    return sum(len(lines(folder, "steps.txt")) == 5 for folder in folders())


def until(holds, seconds: float = 120.0) -> None:
    wait_until(holds, Path("output.txt"), seconds)


EXPECTED = {
    f"runs/grids/g/lr{lr}/seed{seed}": 50 + 10 * lr + seed for lr in (0.1, 0.2, 0.3) for seed in (0, 1)
}


def assert_done_once() -> None:
    """Every run has its result, and took every step once; a restart may repeat the interrupted step."""
    assert accuracies() == pytest.approx(EXPECTED)
    for folder in folders():
        taken, starts = lines(folder, "steps.txt"), len(lines(folder, "starts.txt"))
        assert sorted(set(taken), key=int) == STEPS
        assert len(taken) <= len(STEPS) + starts - 1


def test_a_grid_runs_seed_by_seed_and_ends_with_a_table(capsys):
    assert go() == 0
    assert_done_once()
    out = capsys.readouterr().out
    ended = [line for line in out.splitlines() if line.startswith("[")]
    assert ended[0] == "[1/6] lr0.1/seed0: 51.00 % in 1 min 30 s"
    assert [line.split()[1] for line in ended[:3]] == ["lr0.1/seed0:", "lr0.2/seed0:", "lr0.3/seed0:"]
    assert "| lr0.3 | 2 | 53.50 ± 0.71 |" in out and "| +2.00 [" in out


def test_complete_runs_are_skipped(capsys):
    assert go("--only", "lr0.1") == 0
    assert len(folders()) == 2
    before = workers()
    assert go("--jobs", "2") == 0
    assert workers()[: len(before)] == before and len(workers()) == 6
    capsys.readouterr()
    assert go() == 0
    assert capsys.readouterr().out.startswith("3 rows x 2 seeds: 6 runs, 0 to do")
    assert len(workers()) == 6


def test_seeds_and_rows_can_be_selected(capsys):
    assert go("--seeds", "5..6", "--only", "lr0.2,lr0.3") == 0
    assert [str(f.relative_to("runs/grids/g")) for f in folders()] == [
        f"lr{lr}/seed{seed}" for lr in (0.2, 0.3) for seed in (5, 6)
    ]


def test_failing_runs_stop_no_other_and_are_listed_with_their_commands(capsys):
    Path("g.yaml").write_text(
        "rows: {plain: {lr: 0.1}, crashes: {lr: 0.11}, diverges: {lr: 0.22}, refused: {lr: 0.33},"
        " flaky: {lr: 0.44}, memory: {lr: 0.55}}"
    )
    assert go("--retries", "1") == 1
    out = capsys.readouterr().out
    assert (
        "crashes/seed0: failed: ArithmeticError: it cannot be done\n  python train.py --lr 0.11 --seed 0"
        in out
    )
    assert "diverges/seed0: diverged\n" in out
    assert "refused/seed0: failed: error: refused as requested\n" in out
    assert "memory/seed0: out of memory" in out
    assert "killed by signal 9: Killed" in Path("runs/grids/g/flaky/seed0/console.txt").read_text()
    assert "plain/seed0: 51.00 %" in out and "flaky/seed0: 54.40 %" in out
    starts = {f.parent.name: len(lines(f, "starts.txt")) for f in folders()}
    # Only runs that died are restarted, not those that were refused, ran out of memory or diverged.
    assert starts == {"plain": 1, "crashes": 2, "diverges": 1, "refused": 0, "flaky": 2, "memory": 1}
    # The same command retries failed runs, but not complete ones.
    assert go("--retries", "0", "--only", "crashes,diverges") == 1
    starts = {f.parent.name: len(lines(f, "starts.txt")) for f in folders()}
    assert starts["crashes"] == 3 and starts["diverges"] == 1


def test_each_run_gets_a_fraction_of_the_cores_or_its_own_gpu(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("lib.grid.local.cpu_count", lambda: 8)
    assert environment(1, None).get("OMP_NUM_THREADS") is None
    assert environment(3, None)["OMP_NUM_THREADS"] == "2"
    assert environment(20, None)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environment(2, None)["OMP_NUM_THREADS"] == "5"
    assert go("--gpus", "3,7", "--seeds", "0") == 0
    gpus = [line.split()[2] for folder in folders() for line in lines(folder, "starts.txt")]
    assert sorted(set(gpus)) == ["3", "7"] and len(gpus) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_terminated_launcher_ends_its_runs_and_the_same_command_resumes(number):
    Path("hold").touch()
    launcher = launch("--jobs", "2")
    until(lambda: held() == 2)
    launcher.send_signal(number)
    code = launcher.wait(60)
    assert code == (-number if number == signal.SIGKILL else 130)
    until(lambda: not any(map(alive, workers())))
    assert accuracies() == {}
    Path("hold").unlink()
    assert go("--jobs", "2") == 0
    assert_done_once()
    assert len(workers()) == 8


def test_a_killed_run_is_restarted():
    Path("hold").touch()
    launcher = launch("--jobs", "2")
    until(lambda: held() == 2)
    os.kill(workers()[0], signal.SIGKILL)
    Path("hold").unlink()
    assert launcher.wait(300) == 0, Path("output.txt").read_text()
    assert_done_once()
    assert len(workers()) == 7


def test_two_launchers_share_a_grid():
    both = [launch("--jobs", "2"), launch("--jobs", "1")]
    assert [launcher.wait(300) for launcher in both] == [0, 0], Path("output.txt").read_text()
    assert_done_once()
    assert len(workers()) == 6  # each run was started once
    assert Path("output.txt").read_text().count("| lr0.3 | 2 |") == 2  # both print all results


def test_a_launcher_takes_over_the_runs_of_a_killed_one():
    Path("hold").touch()
    first = launch("--jobs", "2")
    until(lambda: held() == 2)
    second = launch("--jobs", "1")
    until(lambda: held() == 3)
    first.kill()
    Path("hold").unlink()
    assert second.wait(300) == 0
    first.wait()
    assert_done_once()


def job(folder: Path) -> Job:
    return Job("a", 0, (), folder)


def test_a_claim_is_exclusive_until_released(tmp_path):
    first = claim.claim(job(tmp_path))
    assert first and claim.claim(job(tmp_path)) is None
    first.release()
    second = claim.claim(job(tmp_path))
    assert second
    second.release()


def test_a_claim_ends_with_its_process(tmp_path):
    code = f"""
import time
from pathlib import Path
from lib.grid.claim import claim
from lib.grid.job import Job
held = claim(Job("a", 0, (), Path({str(tmp_path)!r})))
Path("claimed").touch()
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)})
    until(Path("claimed").exists)
    assert claim.claim(job(tmp_path)) is None
    process.kill()
    process.wait()
    held = claim.claim(job(tmp_path))
    assert held
    held.release()


def test_a_run_that_train_py_trains_is_not_claimed(tmp_path):
    with FileLock(tmp_path / ".lock"):
        assert claim.claim(job(tmp_path)) is None
    mine = claim.claim(job(tmp_path))
    assert mine
    mine.release()


@pytest.mark.parametrize("seconds", [-1000, 1000], ids=["long ago", "before the clock was set back"])
def test_without_locks_between_machines_only_a_recently_touched_claim_counts(tmp_path, seconds):
    file = tmp_path / claim.HOLDER
    file.write_text(json.dumps({"host": "another", "pid": 1}))
    assert claim.claim(job(tmp_path)) is None
    os.utime(file, (time.time() + seconds,) * 2)
    mine = claim.claim(job(tmp_path))
    assert mine and mine.renew()
    # The other machine was only slow and takes it back, which this one must notice.
    file.write_text(json.dumps({"host": "another", "pid": 1}))
    mine._touched -= 60
    assert not mine.renew()
    mine.release()
    assert json.loads(file.read_text())["host"] == "another"


def test_new_processes_keep_the_users_python_path_and_never_add_the_current_folder(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/mine", "/too"]))
    assert python_path()["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/mine", "/too"]
    monkeypatch.delenv("PYTHONPATH")
    assert python_path()["PYTHONPATH"] == str(ROOT)  # an empty part would be the current folder


def test_an_unwritable_folder_is_reported_in_one_line(tmp_path, capsys):
    Path("file").write_text("")
    assert go("--output-dir", "file/runs") == 2
    message = capsys.readouterr().err
    assert "give another --output-dir" in message and message.count("\n") == 1


GUARD = """\
import os, sys
sys.path.insert(0, sys.argv[1])
from lib.grid import guard
guard.POLL_SECONDS = 0.05
guard.supervise(os.getppid(), ["sleep", "60"])
"""


def test_without_a_death_signal_the_guard_ends_the_command_with_its_parent():
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GUARD!r}, {str(ROOT)!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    until(lambda: grandchildren(process.pid))
    sleeping = grandchildren(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(map(alive, sleeping)))
    assert guard.supervise(os.getppid(), [sys.executable, "-c", "raise SystemExit(7)"]) == 7


def grandchildren(pid: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    return [one for one, parent in parents.items() if parents.get(parent) == pid]


@pytest.mark.slow
def test_a_training_resumed_after_its_launcher_was_killed_ends_the_same():
    Path("tiny.yaml").write_text(TINY)
    Path("g.yaml").write_text("base: {config: tiny.yaml, epochs: 6}\nrows: {mixup: on}")
    launcher = launch("--output-dir", "killed", command=REAL)
    killed, whole = Path("killed/mixup/seed0"), Path("whole")
    until((killed / "last.pt").exists, 300)
    launcher.kill()
    launcher.wait()
    assert not (killed / "result.json").exists()
    assert launch("--output-dir", "killed", command=REAL).wait(300) == 0, Path("output.txt").read_text()
    words = read_grid(Path("g.yaml")).rows[0].arguments
    assert train.main([*words, "--output-dir", "whole"]) == 0

    found, expected = (json.loads((f / "result.json").read_text()) for f in (killed, whole))
    for key in ("test_accuracy", "test_loss", "steps", "config", "best"):
        assert found[key] == expected[key]
    losses = [[json.loads(row)["train_loss"] for row in lines(f, "metrics.jsonl")] for f in (killed, whole)]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    console = (killed / "console.txt").read_text()
    assert console.count("resuming killed/mixup/seed0") == 1
    epochs = [line for line in console.splitlines() if line.startswith("epoch ")]
    assert 6 <= len(epochs) <= 7  # one may be repeated, if it was cut short before its checkpoint
