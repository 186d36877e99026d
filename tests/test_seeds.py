"""`train.py --seeds`: several runs at once, each with the result of its single run."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lib.__main__
import lib.grid.capacity
import lib.grid.seeds
import train
from lib.config.cli import parse
from lib.core.errors import BadInput
from lib.grid.capacity import ask_capacity, capacity
from lib.grid.seeds import single_run, train_seeds
from tests.helpers import grid_train
from tests.helpers.grids import alive, wait_until
from tests.helpers.runs import TINY

ROOT = Path(__file__).parent.parent
FAKE = (sys.executable, str(ROOT / "tests/helpers/grid_train.py"))
SEEDS = range(3)
SMALL = f"""{TINY}
augment: {{mixup: true}}
average: {{ema: true}}
"""
TIMES = {"seconds", "images_per_second", "peak_memory_mb", "environment", "seconds_train", "seconds_data"}
TIMES |= {"seconds_start", "seconds_evaluate"}
# `train.py --seeds`, with grid_train.py for the runs.
LAUNCHER = f"""\
import functools, signal, sys
import lib.__main__, lib.grid.seeds as seeds
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background processes
seeds.ask_capacity = lambda words: 2
seeds.train_seeds = functools.partial(seeds.train_seeds, train={FAKE})
sys.exit(lib.__main__.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("lib.report.plots.curves.draw_curves", lambda rows, title: b"")
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)


@pytest.fixture
def fake(monkeypatch):
    """grid_train.py instead of train.py, and at most two runs at once."""
    monkeypatch.setattr(lib.grid.seeds, "ask_capacity", lambda words: 2)
    monkeypatch.setattr(lib.grid.seeds, "train_seeds", functools.partial(train_seeds, train=FAKE))


def go(line: str) -> int:
    return train.main(["--config", "small.yaml", *line.split()])


def start(program: list[str], line: str) -> subprocess.Popen:
    with open("output.txt", "w") as output:
        return subprocess.Popen(
            [sys.executable, *program, "--config", "small.yaml", *line.split()],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=output, stderr=output,
        )  # fmt: skip


def statuses(folder: str) -> dict[int, str]:
    files = {seed: Path(folder, f"seed{seed}/result.json") for seed in SEEDS}
    return {seed: json.loads(file.read_text())["status"] for seed, file in files.items() if file.exists()}


def lines(folder: str, file: str) -> list[list[str]]:
    """The lines of a file of each seed's folder."""
    files = [Path(folder, f"seed{seed}", file) for seed in SEEDS]
    return [path.read_text().splitlines() if path.exists() else [] for path in files]


def without_times(tree: dict) -> dict:
    found = {key: value for key, value in tree.items() if key not in TIMES}
    found["config_diff"] = {key: part for key, part in found.get("config_diff", {}).items() if key != "run"}
    return found


def assert_same_run(one: Path, other: Path) -> None:
    """The same result, metrics, logits and weights, bit by bit."""
    a, b = (json.loads((folder / "result.json").read_text()) for folder in (one, other))
    assert without_times(a) == without_times(b)
    a, b = ((folder / "metrics.jsonl").read_text().splitlines() for folder in (one, other))
    assert [without_times(json.loads(row)) for row in a] == [without_times(json.loads(row)) for row in b]
    a, b = (np.load(folder / "predictions.npz") for folder in (one, other))
    assert a.files == b.files and all((a[name] == b[name]).all() for name in a.files)
    a, b = (torch.load(folder / "last.pt", weights_only=True) for folder in (one, other))
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert {file.name for file in other.iterdir()} <= {file.name for file in one.iterdir()}


def test_every_seed_has_the_result_of_its_single_run_and_complete_ones_are_skipped(monkeypatch, capfd):
    for seed in (0, 1):
        assert go(f"--seed {seed} --output-dir single/seed{seed}") == 0
    capfd.readouterr()
    assert go("--seeds 1..1 --output-dir all") == 0
    out = capfd.readouterr().out
    assert out.startswith("1 seed: 1 to do, in all\n1 at once\n[1/1] all/seed1: ")
    assert " runs per hour\n" in out
    written = {file: file.stat().st_mtime_ns for file in Path("all").rglob("*")}
    monkeypatch.setattr(lib.grid.seeds, "ask_capacity", lambda words: 9)
    assert go("--seeds 0..1 --jobs 2 --output-dir all") == 0
    out = capfd.readouterr().out
    assert out.startswith("2 seeds: 1 to do, in all\nall/seed1: done, ")
    assert "\n2 at once\n[1/1] all/seed0: " in out
    assert all(file.stat().st_mtime_ns == before for file, before in written.items() if file.is_file())
    for seed in (0, 1):
        assert_same_run(Path(f"all/seed{seed}"), Path(f"single/seed{seed}"))
    results = [json.loads(Path(f"all/seed{seed}/result.json").read_text()) for seed in (0, 1)]
    accuracies = [result["test_accuracy"] for result in results]
    mean, std = np.mean(accuracies), np.std(accuracies, ddof=1)
    assert f"\ntest accuracy {mean:.2f} ± {std:.2f} %  ema test accuracy " in out
    assert out.endswith("(last epoch; mean ± std of 2 seeds)\n")
    # Without anything to do, torch is not imported.
    words = ["--config", "small.yaml", "--seeds", "0..1", "--output-dir", "all"]
    code = f"import sys, train; train.main({words}); assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)},
                           capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert shown.count(": done, ") == 2


def test_the_folders_are_those_of_the_single_runs():
    line = "--model resnet20 --cutout --no-flip train.lr 0.2 --init kaiming"
    command = parse([*line.split(), "--seeds", "0..1"])
    single = parse([*line.split(), "--seed", "1"]).config()
    job = lib.grid.seeds._job(single_run(command, 1), 1)
    assert job.folder == single.folder()
    assert parse(list(job.arguments)).config().tree() == single.tree()


@pytest.mark.usefixtures("fake")
def test_a_failing_seed_stops_no_other_and_only_the_same_command_retries_it(monkeypatch, capfd):
    behaviour = {0: grid_train.DIVERGES, 1: grid_train.CRASHES}
    monkeypatch.setenv("LR_BY_SEED", json.dumps(behaviour))
    assert go("--seeds 0..2 --output-dir all") == 1
    out = capfd.readouterr().out
    assert "] all/seed1: failed: ArithmeticError: it cannot be done\n" in out
    assert "] all/seed0: diverged\n" in out and "] all/seed2: " in out
    assert "python train.py --config small.yaml --output-dir=all/seed1 --seed=1\n" in out
    assert "(last epoch; mean ± std of 1 of 3 seeds)" in out
    monkeypatch.delenv("LR_BY_SEED")
    assert go("--seeds 0..2 --output-dir all") == 1  # because one diverged
    out = capfd.readouterr().out
    assert "all/seed0: done, diverged" in out and "[1/1] all/seed1: " in out
    assert list(map(len, lines("all", "starts.txt"))) == [1, 2, 1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.usefixtures("fake")
def test_ending_the_command_ends_the_runs_and_the_same_command_resumes(number):
    Path("hold").touch()
    launcher = start(["-c", LAUNCHER], "--seeds 0..2 --epochs 8 --output-dir all")
    try:
        wait_until(lambda: list(map(len, lines("all", "steps.txt"))) == [5, 5, 0], Path("output.txt"))
        launcher.send_signal(number)
        assert launcher.wait(60) == (-number if number == signal.SIGKILL else 130)
    finally:
        launcher.kill()
        launcher.wait()
    workers = [int(line.split()[0]) for started in lines("all", "starts.txt") for line in started]
    wait_until(lambda: not any(map(alive, workers)), Path("output.txt"))
    output = Path("output.txt").read_text()
    assert ("interrupted; the same command" in output) == (number == signal.SIGINT)
    assert len(workers) == 2 and "Traceback" not in output and not statuses("all")
    Path("hold").unlink()
    assert go("--seeds 0..2 --epochs 8 --output-dir all") == 0
    assert statuses("all") == dict.fromkeys(SEEDS, "ok")
    for steps in lines("all", "steps.txt"):
        assert list(dict.fromkeys(steps)) == [str(step) for step in range(8)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_training_resumed_after_its_command_was_ended_is_its_single_run(number):
    budget = "--epochs 40"  # long enough to be ended in the middle
    line = f"{budget} --output-dir all"
    launcher = start([str(ROOT / "train.py")], f"{line} --seeds 0..1 --jobs 2")
    try:
        wait_until(Path("all/seed0/last.pt").exists, Path("output.txt"))
        launcher.send_signal(number)
        launcher.wait(60)
    finally:
        launcher.kill()
        launcher.wait()
    interrupted = {0: "interrupted", 1: "interrupted"} if number == signal.SIGINT else {}
    assert statuses("all").items() <= interrupted.items()
    assert go(f"{line} --seeds 0..1 --jobs 2") == 0
    assert "resuming all/seed0" in Path("all/seed0/console.txt").read_text()
    for seed in (0, 1):
        assert go(f"{budget} --seed {seed} --output-dir single/seed{seed}") == 0
        assert_same_run(Path(f"all/seed{seed}"), Path(f"single/seed{seed}"))


@pytest.mark.parametrize(
    ("line", "parts"),
    {
        "a seed as a flag": ("--seeds 0..2 --seed 1", ("--seed (command line)", "remove one of them")),
        "a seed as a key": ("--seeds 0..2 train.seed=1", ("train.seed (command line)", "remove one of them")),
        "to evaluate": ("--seeds 0..2 --evaluate runs/x", ("--seeds", "--evaluate")),
        "a dry run": ("--seeds 0..2 --dry-run", ("--seeds", "--dry-run")),
        "to list": ("--seeds 0..2 --list models", ("--seeds", "--list")),
        "a word": ("--seeds many", ("--seeds must be whole numbers", "'many'")),
        "nothing": ("--seeds", ("--seeds needs a value",)),
        "backwards": ("--seeds 3..1", ("--seeds must be whole numbers", "there is none")),
        "one twice": ("--seeds 1,1", ("given twice",)),
        "two lists": ("--seeds 0 --seeds 1", ("--seeds", "twice")),
        "jobs alone": ("--jobs 2", ("--jobs", "--seeds")),
        "no jobs": ("--seeds 0..1 --jobs 0", ("--jobs 0: jobs must be at least 1",)),
        "jobs in words": ("--seeds 0..1 --jobs all", ("--jobs all: expected a whole number",)),
        "a setting": ("--seeds 0..1 --modle x", ("unknown setting 'modle'",)),
        "a batch": ("--seeds 0..1 --bs 100", ("a batch of 100 images",)),
        "a device and jobs": ("--seeds 0..1 --jobs 2 --device tpu", ("device 'tpu'",)),
        "a device": ("--seeds 0..1 --device tpu", ("device 'tpu'",)),
    }.values(),
)  # fmt: skip
def test_wrong_options_are_refused_in_one_line_and_leave_nothing(line, parts, monkeypatch, capfd):
    in_process = lambda words: capacity(parse(list(words)).config())  # noqa: E731
    monkeypatch.setattr(lib.grid.seeds, "ask_capacity", in_process)
    assert go(line) == 2
    message = capfd.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert all(part in message for part in parts), message
    assert not Path("runs").exists()


def test_seeds_cannot_be_set_in_a_file(capfd):
    Path("more.yaml").write_text("seeds: 0..2\n")
    assert go("--config more.yaml") == 2
    assert "unknown setting 'seeds': did you mean seed" in capfd.readouterr().err


def test_seeds_are_refused_under_torchrun(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    with pytest.raises(BadInput, match="--seeds runs in one process"):
        lib.__main__.run(["--config", "small.yaml", "--seeds", "0..2"])


def test_one_run_per_core_unless_the_user_sets_the_threads(monkeypatch):
    config = parse(["--config", "small.yaml"]).config()
    monkeypatch.setattr(lib.grid.capacity, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert capacity(config) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert capacity(config) == 8


def test_the_capacity_is_measured_in_another_process_that_passes_errors_on():
    words = ["--config", "small.yaml"]
    with pytest.raises(BadInput, match="a batch of 100 images"):
        ask_capacity([*words, "--bs", "100"])
    with contextlib.chdir("/"), pytest.raises(BadInput, match=r"small\.yaml"):
        ask_capacity(words)


@pytest.mark.gpu
def test_a_gpu_trains_several_runs_at_once_and_each_is_its_single_run(capfd):
    assert go("--seeds 0..3 --device cuda --output-dir all") == 0
    assert "4 at once" in capfd.readouterr().out
    assert go("--seed 2 --device cuda --output-dir one") == 0
    for part in ("test_loss", "test_accuracy"):
        one, seed2 = (json.loads(Path(f, "result.json").read_text()) for f in ("one", "all/seed2"))
        assert seed2[part] == pytest.approx(one[part], rel=1e-3)
