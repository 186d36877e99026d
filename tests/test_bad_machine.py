"""Full disks, too little memory and missing processes end a run in one line, and it can be resumed."""

import errno
import mmap
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lib.run.fit
import lib.store.checkpoint
import train
from lib.core.errors import exit_code
from tests.helpers.refusals import files, one_line

TRAIN = Path(train.__file__)


def resumes(tiny: str) -> None:
    """Once there is room, the same command resumes from the checkpoint before the disk was full."""
    assert lib.store.checkpoint.load(Path("run/last.pt"))["step"] == 4
    assert not list(Path("run").glob(".*.partial"))
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 0
    assert "resuming run at step 4 of 8" in Path("run/log.txt").read_text()


def test_a_full_disk_keeps_the_earlier_checkpoint(refused, tiny, monkeypatch):
    step, limits = lib.run.fit.train_step, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(run, number):
        if number == 5:  # only the checkpoint, of 2 MB, is larger
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        return step(run, number)

    with monkeypatch.context() as patch:
        patch.setattr(lib.run.fit, "train_step", fill)
        try:
            refused("--output-dir run", "cannot write run/last.pt", "Free some space", changes=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resumes(tiny)


def test_a_failing_rename_keeps_the_earlier_checkpoint(refused, tiny, monkeypatch):
    rename, seen = os.replace, []

    def no_room(source, target):
        seen.append(Path(target).name)
        if seen.count("last.pt") == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", no_room)
        refused("--output-dir run", "cannot write run/last.pt: No space left on device", changes=True)
    resumes(tiny)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_on_a_full_disk_is_refused(refused):
    Path("run").mkdir()
    Path("run/log.txt").symlink_to("/dev/full")
    refused("--output-dir run", "cannot write run/log.txt: No space left on device", changes=True)


def cuda_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")


# Of torch, of Python and of the system, as they report more than any machine has.
FULL = {
    "CUDA": cuda_is_full,
    "torch": lambda: torch.empty(2**60, dtype=torch.uint8),
    "Python": lambda: bytearray(2**62),
    "numpy": lambda: np.empty(2**60, dtype=np.uint8),
    "the system": lambda: mmap.mmap(-1, 2**62),
}


@pytest.mark.parametrize("allocate", FULL.values(), ids=FULL)
def test_running_out_of_memory_names_the_options_that_save_it(refused, monkeypatch, allocate):
    monkeypatch.setattr(lib.run.fit, "train_step", lambda run, number: allocate())
    refused("", "out of memory", "--accumulate", "now 1", "--batch-size", "now 16", changes=True)


@pytest.mark.parametrize("allocate", FULL.values(), ids=FULL)
def test_any_command_without_memory_ends_in_one_line(allocate, capsys):
    one_line(exit_code(allocate), capsys.readouterr().err, "too little memory")


def test_an_error_of_another_kind_is_not_taken_for_one_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        exit_code(lambda: torch.ones(2, 3) @ torch.ones(2, 3))


def test_peak_memory_is_counted_in_the_unit_of_the_system(monkeypatch):
    device, kib = torch.device("cpu"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    counted = int(status.partition("VmHWM:")[2].split()[0])  # in KiB
    assert lib.run.fit._peak_memory(device) == pytest.approx(counted * 1024, rel=0.1)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert lib.run.fit._peak_memory(device) == pytest.approx(kib, rel=0.1)


def test_a_distributed_process_without_the_others_is_refused(refused, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused("", "MASTER_ADDR", "torchrun")


@pytest.mark.parametrize("world", ["1", ""])
def test_a_single_process_of_torchrun_trains(tiny, monkeypatch, world):
    monkeypatch.setenv("WORLD_SIZE", world)
    assert train.main(["--config", tiny]) == 0


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--model resnt20", "resnet20"),
        ("--dataset cifar10 --offline --root nowhere", "cifar-10-binary.tar.gz"),
        ("--config tiny.yaml --output-dir tiny.yaml/run", "cannot write in tiny.yaml/run"),
    ],
)
def test_a_new_process_prints_one_line_and_changes_no_file(tiny, tmp_path, line, part):
    before = files(tmp_path)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TRAIN), *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    one_line(done.returncode, done.stderr, part)
    assert done.stdout == ""
    assert files(tmp_path) == before
