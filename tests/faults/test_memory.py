"""Memory used up at any stage of a run ends it in one line, and with more the same command completes it.

The limit is that of the address space, as `ulimit -v` sets it. It is set when a stage begins.
"""

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import lib.factory.run
import lib.run.fit
import lib.run.record
import train
from tests.helpers.processes import run_apart
from tests.helpers.refusals import one_line
from tests.helpers.resume import learned

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

# Batches whose step needs far more than is left, and a test set whose evaluation does.
IMAGES = "--data.image-size 32 --data.size 2048 --fraction 0.125 --batch-size 256"
COMMAND = ["--config", "tiny.yaml", "--ema", *IMAGES.split(), "--output-dir"]
SPARE = 2**22  # bytes: what Python itself needs is there, and the tensors of a step are not
STAGES = {  # and the number of the call before which it is limited
    "data": (lib.factory.run, "build_dataset", 1),
    "model": (lib.factory.run, "build_network", 1),
    "optimizer": (lib.factory.run, "build_learning", 1),
    "step": (lib.run.fit, "train_step", 2),
    "evaluation": (lib.run.record, "evaluate", 2),
    "checkpoint": (lib.run.record.checkpoint, "save", 2),
}


def limit(stage: Callable, after: int) -> Callable:
    """The stage; before its call number `after`, memory is limited to what is in use, and SPARE."""
    calls = 0

    def limited(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == after:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            size = pages * os.sysconf("SC_PAGE_SIZE") + SPARE
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
        return stage(*arguments, **named)

    return limited


@pytest.fixture(scope="module")
def whole(place) -> dict:
    # In another process, because memory that this one has used and freed would be there again.
    assert run_apart(lambda: train.main([*COMMAND, "whole"])) == 0, Path("output.txt").read_text()
    return learned("whole")


@pytest.mark.parametrize("stage", STAGES)
def test_used_up_memory_ends_a_run_in_one_line_and_more_completes_it(place, whole, endings, stage):
    shutil.rmtree("run", ignore_errors=True)
    Path("output.txt").unlink(missing_ok=True)
    module, name, after = STAGES[stage]

    def little() -> int:
        setattr(module, name, limit(getattr(module, name), after))
        return train.main([*COMMAND, "run"])

    code, said = run_apart(little), Path("output.txt").read_text()
    assert "Traceback" not in said, said
    if code == 0:
        endings["enough"] += 1
    else:
        one_line(code, said.splitlines(keepends=True)[-1], "memory")
        endings["refused in one line, then the same bits"] += 1
    assert not list(Path().rglob("*.partial"))
    assert run_apart(lambda: train.main([*COMMAND, "run"])) == 0, Path("output.txt").read_text()
    assert learned("run") == whole
