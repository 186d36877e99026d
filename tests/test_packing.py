"""Several seeds at once: every run is what it is alone, and what is killed, fails or is done stops none."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import lib.grid.packed
import lib.run.fit
import train
from lib.config.cli import parse
from lib.engine.step import train_step
from lib.factory import build
from lib.grid.fork import Forked, asked, fork
from lib.grid.packed import room, single
from scripts.bench.vmapped import vmapped
from tests.helpers.runs import TINY

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
SEEDS = range(3)
SMALL = f"""{TINY}
augment: {{mixup: true}}
average: {{ema: true}}
"""
TIMES = {"seconds", "images_per_second", "peak_memory_mb", "environment", "seconds_train", "seconds_data"}
TIMES |= {"seconds_start", "seconds_evaluate"}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("lib.run.record.draw_curves", lambda rows, title: b"")
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)


def go(line: str) -> int:
    return train.main(["--config", "small.yaml", *line.split()])


def results(folder: str, seeds=SEEDS) -> list[dict]:
    return [json.loads(Path(folder, f"seed{seed}/result.json").read_text()) for seed in seeds]


def timeless(tree: dict) -> dict:
    kept = {key: value for key, value in tree.items() if key not in TIMES}
    kept["config_diff"] = {key: part for key, part in kept.get("config_diff", {}).items() if key != "run"}
    return kept


def same(one: Path, other: Path) -> None:
    """The same outcome, rows, logits and weights, bit by bit."""
    a, b = (json.loads((folder / "result.json").read_text()) for folder in (one, other))
    assert timeless(a) == timeless(b)
    a, b = ((folder / "metrics.jsonl").read_text().splitlines() for folder in (one, other))
    assert [timeless(json.loads(row)) for row in a] == [timeless(json.loads(row)) for row in b]
    a, b = (np.load(folder / "predictions.npz") for folder in (one, other))
    assert a.files == b.files and all((a[name] == b[name]).all() for name in a.files)
    a, b = (torch.load(folder / "last.pt", weights_only=True) for folder in (one, other))
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert {file.name for file in other.iterdir()} <= {file.name for file in one.iterdir()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folders of three single runs."""
    folder = tmp_path_factory.mktemp("alone")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.run.record.draw_curves", lambda rows, title: b"")
        Path("small.yaml").write_text(SMALL)
        for seed in SEEDS:
            assert go(f"--seed {seed} --output-dir seed{seed}") == 0
    return folder


def test_every_packed_run_is_its_single_run(alone, capfd):
    assert go("--seeds 0..2 --jobs 2 --output-dir all") == 0
    for seed in SEEDS:
        same(Path(f"all/seed{seed}"), alone / f"seed{seed}")
    out = capfd.readouterr().out
    assert out.startswith("3 seeds: 3 to do, in all\n2 at once\n[1/3] all/seed")
    accuracies = [result["test_accuracy"] for result in results("all")]
    mean, std = np.mean(accuracies), np.std(accuracies, ddof=1)
    assert f"\ntest accuracy {mean:.2f} ± {std:.2f} %  ema test accuracy " in out
    assert out.endswith("(last epoch; mean ± std of 3 seeds)\n")
    assert " runs an hour\n" in out


def test_what_is_done_is_told_and_left_alone_and_the_rest_is_trained(alone, capfd):
    assert go("--seeds 0,2 --output-dir all") == 0
    written = {file: file.stat().st_mtime_ns for file in Path("all").rglob("*")}
    capfd.readouterr()
    assert go("--seeds 0..2 --output-dir all") == 0
    out = capfd.readouterr().out
    assert out.startswith("3 seeds: 1 to do, in all\nall/seed0: done, ")
    assert "\nall/seed2: done, " in out and "[1/1] all/seed1: " in out
    assert all(file.stat().st_mtime_ns == before for file, before in written.items() if file.is_file())
    same(Path("all/seed1"), alone / "seed1")
    # With nothing left, nobody waits for torch.
    line = "--config small.yaml --seeds 0..2 --output-dir all"
    told = fresh(f"import sys, train; train.main({line.split()}); print('torch' in sys.modules)")
    assert told.count(": done, ") == 3 and told.endswith("\nFalse\n")


def fresh(code: str) -> str:
    """What a Python of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_the_folders_are_those_of_the_single_runs():
    line = "--model resnet20 --cutout --no-flip train.lr 0.2 --init kaiming"
    command = parse([*line.split(), "--seeds", "0..1"])
    alone = parse([*line.split(), "--seed", "1"]).config()
    job = lib.grid.packed._job(single(command, 1), 1)
    assert job.folder == alone.folder()
    assert parse(list(job.arguments)).config().tree() == alone.tree()


def test_a_seed_that_fails_stops_no_other_and_its_reason_is_shown(monkeypatch, capfd):
    step = lib.run.fit.train_step

    def watched(run, number):
        if run.seed == 1 and number == 3:
            raise ArithmeticError("it cannot be done")
        loss = step(run, number)
        return loss * float("nan") if run.seed == 0 and number == 3 else loss

    monkeypatch.setattr(lib.run.fit, "train_step", watched)
    assert go("--seeds 0..2 --jobs 2 --output-dir all") == 1
    out = capfd.readouterr().out
    assert "] all/seed1: failed: ArithmeticError: it cannot be done\n" in out
    assert "] all/seed0: diverged\n" in out and "] all/seed2: " in out
    assert "python train.py --config small.yaml --output-dir=all/seed1 --seed=1\n" in out
    assert "(last epoch; mean ± std of 1 of 3 seeds)" in out
    monkeypatch.setattr(lib.run.fit, "train_step", step)
    assert go("--seeds 0..2 --output-dir all") == 1  # for one diverged
    out = capfd.readouterr().out
    assert "all/seed0: done, diverged" in out and "[1/1] all/seed1: " in out


def launch(line: str) -> Forked:
    """The command as a process of its own, whose runs leave a line a step and may be held at the sixth."""
    step = lib.run.fit.train_step

    def held(run, number):
        with open(f"step{run.seed}.txt", "a") as file:
            file.write(f"{os.getpid()} {number} {claims()}\n")
        limit = time.monotonic() + 300
        while number == 5 and Path("hold").exists() and time.monotonic() < limit:
            time.sleep(0.01)
        return step(run, number)

    def work() -> int:
        lib.run.fit.train_step = held
        sys.stdout = sys.stderr = open("said.txt", "a", buffering=1)  # noqa: SIM115  (until its end)
        return go(line)

    return fork(work)


def claims() -> int:
    """How many claims this process has open."""
    files = Path("/proc/self/fd").iterdir()
    return sum(file.is_symlink() and os.readlink(file).endswith(".claim") for file in files)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def until(holds, seconds: float = 120.0) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, Path("said.txt").read_text()
        time.sleep(0.02)


def steps(seed: int) -> list[list[int]]:
    file = Path(f"step{seed}.txt")
    return [list(map(int, line.split())) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_who_ends_the_command_ends_the_runs_and_the_same_command_goes_on(number, alone):
    Path("hold").touch()
    launcher = launch("--seeds 0..2 --jobs 2 --output-dir all")
    try:
        until(lambda: all(steps(seed)[-1:] and steps(seed)[-1][1] == 5 for seed in (0, 1)))
        os.kill(launcher.pid, number)
        assert launcher.wait() == (-number if number == signal.SIGKILL else 130)
    finally:
        if launcher.poll() is None:
            os.kill(launcher.pid, signal.SIGKILL)
            launcher.wait()
    workers = {pid for seed in (0, 1) for pid, *_ in steps(seed)}
    assert {claimed for seed in (0, 1) for *_, claimed in steps(seed)} == {1}
    until(lambda: not any(map(alive, workers)))
    assert len(workers) == 2 and not steps(2)
    said = Path("said.txt").read_text()
    assert ("interrupted; the same command" in said) == (number == signal.SIGINT) and "Traceback" not in said
    if number == signal.SIGINT:
        assert [result["status"] for result in results("all", (0, 1))] == ["interrupted"] * 2
    assert go("--seeds 0..2 --jobs 2 --output-dir all") == 0
    for seed in SEEDS:
        same(Path(f"all/seed{seed}"), alone / f"seed{seed}")
        console = Path(f"all/seed{seed}/console.txt").read_text()
        assert console.count("resuming") == (seed < 2)


@pytest.mark.parametrize(
    ("line", "parts"),
    {
        "a seed beside seeds": ("--seeds 0..2 --seed 1", ("--seed (command line)", "leave one out")),
        "a seed as a key": ("--seeds 0..2 train.seed=1", ("train.seed (command line)", "leave one out")),
        "to evaluate": ("--seeds 0..2 --evaluate runs/x", ("--seeds and --evaluate", "cannot be combined")),
        "to plan": ("--seeds 0..2 --dry-run", ("--seeds and --dry-run", "cannot be combined")),
        "to list": ("--seeds 0..2 --list models", ("--seeds and --list", "cannot be combined")),
        "a word": ("--seeds many", ("--seeds must be whole numbers", "'many'")),
        "nothing": ("--seeds", ("--seeds needs a value",)),
        "backwards": ("--seeds 3..1", ("--seeds must be whole numbers", "there is none")),
        "one twice": ("--seeds 1,1", ("one stands twice",)),
        "two lists": ("--seeds 0 --seeds 1", ("--seeds stands there twice",)),
        "jobs alone": ("--jobs 2", ("--jobs", "--seeds")),
        "no jobs": ("--seeds 0..1 --jobs 0", ("--jobs 0: jobs must be at least 1",)),
        "jobs in words": ("--seeds 0..1 --jobs all", ("--jobs all: expected a whole number",)),
        "a setting": ("--seeds 0..1 --modle x", ("unknown setting 'modle'",)),
        "a batch": ("--seeds 0..1 --bs 100", ("a batch of 100 images",)),
        "a device and jobs": ("--seeds 0..1 --jobs 2 --device tpu", ("device 'tpu' is none of",)),
        "a device": ("--seeds 0..1 --device tpu", ("device 'tpu' is none of",)),
    }.values(),
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(line, parts, capfd):
    assert go(line) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert all(part in said for part in parts), said
    assert not Path("runs").exists()


def test_seeds_are_no_setting_of_a_file(capfd):
    Path("more.yaml").write_text("seeds: 0..2\n")
    assert go("--config more.yaml") == 2
    assert "unknown setting 'seeds': did you mean seed" in capfd.readouterr().err


def test_several_processes_do_not_train_several_seeds(monkeypatch, capfd):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    with pytest.raises(lib.grid.packed.BadInput, match="--seeds runs in one process; leave torchrun out"):
        lib.__main__.run(["--config", "small.yaml", "--seeds", "0..2"])


def test_a_run_for_each_core_less_if_the_user_gives_them_threads(monkeypatch):
    config = parse(["--config", "small.yaml"]).config()
    monkeypatch.setattr(lib.grid.packed, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert room(config, None, threads=3) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert room(config, None, threads=8) == 8


def test_what_is_done_before_the_runs_are_forked_leaves_cuda_to_them():
    code = """
import torch
from lib.config.cli import parse
from lib.grid.fork import asked
from lib.grid.packed import prepare
prepare(parse(["--config", "small.yaml"]).config())
before = asked(torch.cuda._is_in_bad_fork)
torch.cuda.is_available()
print(before, asked(torch.cuda._is_in_bad_fork))
"""
    # torch knows of a fork behind CUDA even where there is no GPU, so long as it was built for one.
    assert fresh(code) == f"[False] [{torch.backends.cuda.is_built()}]\n"


def test_a_fork_gives_its_answer_its_error_or_its_end():
    assert asked(lambda: {"x": [1, 2]}, lambda: None, lambda: 3) == [{"x": [1, 2]}, None, 3]
    with pytest.raises(lib.grid.packed.BadInput, match="no such thing"):
        asked(_refuse)
    assert asked(lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: 1) == [None, 1]
    assert fork(lambda: 7).wait() == 7
    assert fork(lambda: os.kill(os.getpid(), signal.SIGTERM)).wait() == 130


def _refuse() -> None:
    raise lib.grid.packed.BadInput("no such thing")


def test_where_nothing_can_be_forked_runs_are_commands(alone, monkeypatch):
    class Commands:
        """What the pool of a grid does, in this process."""

        def __init__(self, jobs, options, report):
            self.jobs, self.words = jobs, options.train

        def run(self) -> None:
            assert self.words[-1] == str(ROOT / "train.py")
            assert [train.main(list(job.arguments)) for job in self.jobs] == [0]

    monkeypatch.setattr(lib.grid.packed, "SUPPORTED", False)
    monkeypatch.setattr(lib.grid.packed, "Pool", Commands)
    assert go("--seeds 1 --output-dir all") == 0
    same(Path("all/seed1"), alone / "seed1")


@pytest.mark.gpu
def test_as_many_runs_as_find_room_on_a_gpu_and_each_is_its_single_run(capfd):
    assert go("--seeds 0..3 --device cuda --output-dir all") == 0
    assert "4 at once" in capfd.readouterr().out
    assert go("--seed 2 --device cuda --output-dir one") == 0
    for part in ("test_loss", "test_accuracy"):
        one, packed = json.loads(Path("one/result.json").read_text()), results("all")[2]
        assert packed[part] == pytest.approx(one[part], rel=1e-3)


def test_the_networks_of_the_benchmark_that_step_as_one_learn_what_each_learns():
    words = "--config small.yaml --no-mixup --no-ema --lr 0.001 --seed"  # small: rounding grows with the rate
    runs = [build(parse([*words.split(), str(seed)]).config(), CPU, print) for seed in SEEDS]
    step, weights = vmapped(runs)
    losses = [step(number) for number in range(3)][-1]
    for seed, run in enumerate(runs):
        expected = [train_step(run, number) for number in range(3)][-1]
        torch.testing.assert_close(losses[seed], expected, rtol=1e-4, atol=0)
        for name, weight in run.model.named_parameters():
            torch.testing.assert_close(weights[name][seed], weight.detach(), rtol=1e-4, atol=1e-6)
