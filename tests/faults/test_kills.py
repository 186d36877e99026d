"""Runs, their launchers and their workers are killed at random; run again, they end with the same bits."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import train
from lib.config.schema import SECTIONS
from tests.helpers.grids import alive, wait_until
from tests.helpers.processes import run_train, start_train, wait
from tests.helpers.resume import learned

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

ROOT = Path(train.__file__).parent
KILLS = 3  # of each kind of run; `--trials` multiplies it
STATEFUL = ("optim", "wrap", "average", "select", "distill")  # sections whose choices keep a state
BASE = "--epochs 2.5 --mixup --cutout 4"  # random draws, and an end within an epoch
NEEDS = {"distill": " --teacher teacher", "select": " --data.image-size 12"}  # its network needs 9
GRID = "base: {config: tiny.yaml, epochs: 2.5, mixup: on, ema: on}\nrows: {a: {sam: on}, b: {optim: adamw}}\n"
# `python -m scripts.grid` without the timing of a few steps
LAUNCHER = "import sys, scripts.grid as g; g.estimate = lambda *known: ''; sys.exit(g.main(sys.argv[1:]))"
COMMANDS = {
    "seeds": [
        train.__file__,
        "--config=tiny.yaml",
        *BASE.split(),
        "--ema",
        "--sam",
        "--seeds=0..1",
        "--jobs=2",
    ],
    "grid": ["-c", LAUNCHER, "g.yaml", "--jobs=2"],
}


def tricks() -> Iterator[str]:
    """Flags that enable each trick that keeps a state."""
    for name in STATEFUL:
        for entry in SECTIONS[name].registry.entries():
            if not entry.placeholders:
                word = f"--{name} {entry.name}" if SECTIONS[name].is_choice else f"--{entry.name}"
                yield word + NEEDS.get(name, "")


@pytest.fixture(scope="module")
def place(place) -> Path:
    """A folder with a configuration, a grid and a teacher."""
    Path("g.yaml").write_text(GRID)
    assert train.main(["--config", "tiny.yaml", "--output-dir", "teacher"]) == 0
    return place


def names(folder: str) -> set[str]:
    """The files of a run, without those of locks: a killed launcher leaves its name, which counts no more."""
    locks = {".lock", ".claim", ".claim.json", "console.txt"}
    return {path.name for path in Path(folder).iterdir()} - locks


def assert_same(folder: str, expected: str) -> None:
    """Assert that both folders have the same files and the same bits, and nothing half-written."""
    assert names(folder) == names(expected)
    found, wanted = learned(folder), learned(expected)
    for part in wanted:
        assert found[part] == wanted[part], f"{part} differs"


@pytest.mark.parametrize("flags", list(tricks()))
def test_a_run_killed_at_random_ends_with_the_same_bits(place, request, endings, flags):
    command, moments = f"{BASE} {flags} --output-dir", random.Random(flags)
    began = time.monotonic()
    assert run_train(f"{command} whole") == 0, Path("output.txt").read_text()
    length, kills = time.monotonic() - began, 0
    while kills < KILLS * request.config.getoption("--trials"):
        pid = start_train(f"{command} run")
        time.sleep(moments.uniform(0, length))
        os.kill(pid, signal.SIGKILL)  # of a child that has ended but was not waited for: no effect
        code = wait(pid)
        assert code in (0, -signal.SIGKILL), Path("output.txt").read_text()
        kills += code != 0
        if code == 0:
            assert_same("run", "whole")
            shutil.rmtree("run")
    assert run_train(f"{command} run") == 0, Path("output.txt").read_text()
    assert_same("run", "whole")
    endings["killed, then the same bits"] += kills
    for folder in ("run", "whole"):
        shutil.rmtree(folder)


@dataclass
class Whole:
    """What a command ends with if nothing is killed."""

    kind: str
    folder: str
    seconds: float


@pytest.fixture(scope="module", params=COMMANDS)
def uninterrupted(place, request) -> Whole:
    kind, began = request.param, time.monotonic()
    assert launch(kind, f"{kind}-whole").wait() == 0, Path("output.txt").read_text()
    return Whole(kind, f"{kind}-whole", time.monotonic() - began)


def launch(kind: str, folder: str) -> subprocess.Popen:
    with open("output.txt", "a") as output:
        return subprocess.Popen(
            [sys.executable, *COMMANDS[kind], f"--output-dir={folder}"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )


def children(pid: int) -> list[int]:
    """The processes that a process has started; those of a launcher are runs."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@pytest.mark.parametrize("victim", ["launcher", "worker"])
def test_a_killed_launcher_or_worker_leaves_no_process_and_the_same_bits(
    uninterrupted, request, endings, victim
):
    kind, whole = uninterrupted.kind, uninterrupted.folder
    moments, kills, folder = random.Random(victim), 0, f"{kind}-{victim}"
    while kills < KILLS * request.config.getoption("--trials"):
        launcher = launch(kind, folder)
        time.sleep(moments.uniform(0, uninterrupted.seconds))
        workers = children(launcher.pid)
        if victim == "launcher" and launcher.poll() is None:
            launcher.kill()
            kills += 1
            wait_until(lambda: not any(map(alive, workers)), Path("output.txt"), 5)  # noqa: B023
        elif victim == "worker" and workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(workers), signal.SIGKILL)
                kills += 1
        if launcher.wait() == 0:  # done too early, or a grid that has started the run again
            assert_all_same(folder, whole)
            shutil.rmtree(folder)
    assert launch(kind, folder).wait() == 0, Path("output.txt").read_text()
    assert_all_same(folder, whole)
    endings["killed, then the same bits"] += kills


def assert_all_same(folder: str, expected: str) -> None:
    runs = [path.parent.relative_to(expected) for path in Path(expected).rglob("result.json")]
    assert len(runs) > 1
    for run in runs:
        assert_same(str(Path(folder, run)), str(Path(expected, run)))
