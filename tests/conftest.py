"""What the tests share: one thread, and a run so small that it can be trained often."""

from pathlib import Path

import pytest
import torch

from tests.helpers.runs import TINY


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums in a fixed order, and no pool of threads, which a forked process would lack."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def undrawn():
    """Runs without the picture of their curves, which takes longer than so small a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.run.record.draw_curves", lambda rows, title: b"")
        yield


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch) -> str:
    """Goes to an empty folder with `tiny.yaml`, and gives that name: two epochs of four steps."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return "tiny.yaml"
