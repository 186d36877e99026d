"""Fixtures that all tests share, and the division of slow tests into parts."""

import zlib
from pathlib import Path

import pytest
import torch

from tests.helpers.runs import TINY


def pytest_addoption(parser):
    parser.addoption("--part", default="0/1", help="k/n: run part k (from 0) of n of the tests")


def pytest_collection_modifyitems(config, items):
    part, parts = map(int, config.getoption("--part").split("/"))
    # By a hash of the name, so that every process and every run divides them the same way.
    others = [item for item in items if zlib.crc32(item.nodeid.encode()) % parts != part]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread: sums in a fixed order, and no thread pool, which a forked process would lack."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def undrawn():
    """Skip the plot of a run's curves, which takes longer than so small a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.run.record.draw_curves", lambda rows, title: b"")
        yield


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch) -> str:
    """Change to an empty folder with `tiny.yaml`, two epochs of four steps; returns that name."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return "tiny.yaml"
