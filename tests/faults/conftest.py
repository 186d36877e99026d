"""Fixtures of the tests of faults."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import own_mounts
from tests.helpers.processes import run_apart
from tests.helpers.runs import TINY


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """A folder with the configuration of a tiny run."""
    with contextlib.chdir(tmp_path_factory.mktemp("faults")), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        Path("tiny.yaml").write_text(TINY)
        yield Path.cwd()


@pytest.fixture(scope="module")
def mounts(place) -> None:
    """Skip where the system does not allow a process mounts of its own."""
    if run_apart(lambda: own_mounts() or 0):
        pytest.skip("mounts are not allowed here")
