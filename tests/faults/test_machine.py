"""A clock set back, folders that cannot be written, no shared memory, and two launchers at once."""

import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

import scripts.plot
import scripts.table
import train
from tests.helpers.mounts import mount_small, own_mounts, read_only_here
from tests.helpers.processes import at_step, run_apart, run_train, start_train, wait
from tests.helpers.refusals import one_line
from tests.helpers.resume import learned

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

COMMAND = "--ema --mixup --output-dir"


@pytest.fixture(scope="module")
def whole(place) -> dict:
    assert train.main(["--config", "tiny.yaml", *COMMAND.split(), "whole"]) == 0
    return learned("whole")


@pytest.fixture(autouse=True)
def fresh(place):
    """No output and no run of an earlier test."""
    yield
    Path("output.txt").unlink(missing_ok=True)
    shutil.rmtree("run", ignore_errors=True)


def test_a_run_continues_with_the_same_bits_after_the_clock_was_set_back(whole, endings):
    now = time.time
    assert run_train(f"{COMMAND} run", at_step(5, lambda: os._exit(9))) == 9
    assert run_train(f"{COMMAND} run", lambda: setattr(time, "time", lambda: now() - 10 * 365 * 86400)) == 0
    assert learned("run") == whole
    endings["the same bits"] += 1


def test_of_two_runs_started_at_once_one_trains_and_one_is_refused_in_one_line(whole, endings):
    codes = [wait(pid) for pid in [start_train(f"{COMMAND} run") for _ in range(4)]]
    said = Path("output.txt").read_text()
    assert codes.count(0) >= 1 and set(codes) <= {0, 2}, said
    refused = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(refused) == codes.count(2) and all("another process is training" in line for line in refused)
    assert learned("run") == whole
    endings["one trained, the others were refused"] += 1


WRITERS = {
    "train": (train.main, ["--config", "tiny.yaml", "--output-dir", "new"]),
    "seeds": (train.main, ["--config", "tiny.yaml", "--seeds", "0..1", "--output-dir", "many"]),
    "evaluate": (train.main, ["--evaluate", "whole"]),
    "plot": (scripts.plot.main, ["curves", "whole", "-o", "plot.png"]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_read_only_folder_is_refused_in_one_line(whole, mounts, endings, name):
    main, words = WRITERS[name]
    code = run_apart(lambda: own_mounts() or read_only_here() or main(words))
    said = Path("output.txt").read_text()
    one_line(code, said.splitlines(keepends=True)[-1])
    assert "Traceback" not in said
    endings["refused in one line"] += 1


def test_a_table_of_runs_in_a_read_only_folder_is_printed(whole, mounts, endings):
    code = run_apart(lambda: own_mounts() or read_only_here() or scripts.table.main(["whole"]))
    assert code == 0, Path("output.txt").read_text()
    endings["done"] += 1


@pytest.mark.parametrize("size", [4096, 2**20])
def test_images_are_streamed_without_shared_memory_or_refused_in_one_line(place, mounts, endings, size):
    for number, name in enumerate(images()):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number, 0, 0)).save(name)

    def command() -> int:
        own_mounts()
        mount_small("/dev/shm", size)
        line = "--dataset folder:images --data.stream true --workers 2 --data.image-size 64"
        return train.main(["--config", "tiny.yaml", *line.split(), "--output-dir", "run"])

    code = run_apart(command)
    said = Path("output.txt").read_text()
    assert code in (0, 2) and "Traceback" not in said, said
    endings["streamed" if code == 0 else "refused in one line"] += 1


def images() -> Iterable[str]:
    return [
        f"images/{split}/{label}/{i}.png" for split in ("train", "test") for label in "ab" for i in range(40)
    ]
