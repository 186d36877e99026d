"""A disk that is full at any write ends a run in one line; with more room the run ends with the same bits."""

import shutil
from pathlib import Path

import pytest

import train
from tests.helpers.mounts import mount_small, own_mounts
from tests.helpers.processes import run_apart
from tests.helpers.refusals import one_line
from tests.helpers.resume import learned

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("mounts", "undrawn")]

COMMAND = ["--config", "tiny.yaml", "--ema", "--run.tensorboard", "--output-dir"]
# Full at the first file, at each of the next ones, at the checkpoints of 2 MB, at the result.
PAGES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 200, 600, 800, 900, 1000, 1200)


def refused_then_complete(size: int) -> int:
    """Train on a disk of this size, and again when it is larger; returns the second exit code."""
    own_mounts()
    mount_small("small", size)
    code = train.main([*COMMAND, "small/run"])
    Path("code.txt").write_text(str(code))
    Path("partial.txt").write_text(" ".join(path.name for path in Path("small").rglob("*.partial")))
    shutil.copy("output.txt", "refused.txt")
    mount_small("small", 2**26, again=True)
    code = run_apart(lambda: train.main([*COMMAND, "small/run"]))
    shutil.copytree("small/run", "run")
    return code


@pytest.fixture(scope="module")
def whole(place) -> dict:
    assert train.main([*COMMAND, "whole"]) == 0
    return learned("whole")


@pytest.mark.parametrize("pages", PAGES)
def test_a_full_disk_ends_a_run_in_one_line_and_more_room_completes_it(place, whole, endings, pages):
    shutil.rmtree("run", ignore_errors=True)
    Path("output.txt").unlink(missing_ok=True)
    assert run_apart(lambda: refused_then_complete(4096 * pages)) == 0, Path("output.txt").read_text()
    said = Path("refused.txt").read_text()
    if (code := int(Path("code.txt").read_text())) == 0:
        endings["large enough"] += 1
    else:
        one_line(code, said.splitlines(keepends=True)[-1], "cannot write", "No space left on device")
        assert "Traceback" not in said and "Exception" not in said, said
        endings["refused in one line, then the same bits"] += 1
    assert Path("partial.txt").read_text() == ""
    assert learned("run") == whole
