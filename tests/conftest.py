"""Fixtures that all tests share, and the division of slow tests into parts."""

import json
import shutil
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import train
from tests.helpers.fuzz import fuzz
from tests.helpers.refusals import files, one_line
from tests.helpers.runs import TINY, train_ten_classes


def pytest_addoption(parser):
    parser.addoption("--part", default="0/1", help="k/n: run part k (from 0) of n of the tests")
    parser.addoption("--trials", type=int, default=1, help="multiply the inputs and kills of the slow tests")
    parser.addoption("--trials-record", type=Path, help="append to this file what they tried")


def pytest_collection_modifyitems(config, items):
    part, parts = map(int, config.getoption("--part").split("/"))
    # By a hash of the name, so that every process and every run divides them the same way.
    others = [item for item in items if zlib.crc32(item.nodeid.encode()) % parts != part]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


@pytest.hookimpl(tryfirst=True)  # before any fixture draws, module fixtures included
def pytest_runtest_setup():
    """Seed each test: which tests a worker ran before depends on the speed of the machine."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread: sums in a fixed order, and no thread pool, which a forked process would lack."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def undrawn():
    """Skip the plot of a run's curves, which takes longer than so small a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.report.plots.curves.draw_curves", lambda rows, title: b"")
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A run that was trained once; tests that write into it take `run`."""
    return train_ten_classes(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> Path:
    """A copy of the trained run in an empty folder, which becomes the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained, "run"))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch) -> str:
    """Change to an empty folder with `tiny.yaml`, two epochs of four steps; returns that name."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return "tiny.yaml"


@pytest.fixture
def refused(tiny, capfd, tmp_path):
    """A function that runs a command line on the tiny configuration, and expects it to be refused.

    It must print one line that has all `parts`. By capfd, stderr includes that of C++ and of other threads.
    """

    def run(line: str, *parts: str, changes: bool = False) -> None:
        before = files(tmp_path)
        with warnings.catch_warnings(record=True) as warned:  # a warning would be a second line
            code = train.main(["--config", tiny, *line.split()])
        assert not warned
        one_line(code, capfd.readouterr().err, *parts)
        assert changes or files(tmp_path) == before

    return run


@pytest.fixture
def endings(request) -> Iterator[Counter]:
    """How often trials ended in which way; `--trials-record` keeps those of the slow tests."""
    counted = Counter()
    yield counted
    record = request.config.getoption("--trials-record")
    if record and counted and request.node.get_closest_marker("slow"):
        with open(record, "a") as file:
            file.write(json.dumps({"test": request.node.nodeid, "endings": counted}) + "\n")


@pytest.fixture(params=["short", pytest.param("long", marks=pytest.mark.slow)])
def tried(request, endings) -> Callable[..., None]:
    """A function that calls `check` with inputs of a strategy: a few that are always the same, or many."""

    def run(strategy, check, short: int, long: int) -> None:
        repeat = request.param == "short"
        count = short if repeat else long * request.config.getoption("--trials")
        endings.update(fuzz(strategy, check, count, repeat))

    return run
