"""Workers and training processes of streamed folders: resume, signals and unreadable images."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import lib.run.fit
from lib.data import files
from lib.data.decoding import decode
from lib.factory import build_dataset
from tests.helpers.processes import at_step, run_distributed, run_train, start_train, wait
from tests.helpers.resume import learned
from tests.helpers.streams import CLASSES, TEST, config_of, data_of, folder_of_shapes

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return folder_of_shapes(tmp_path_factory.mktemp("images"))


@pytest.fixture
def own(images, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(images, tmp_path / "own", ignore=shutil.ignore_patterns("*.pt")))


def test_a_streamed_run_whose_worker_was_killed_resumes_to_the_result_of_a_resident_one(
    images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tiny = config_of(images, "--workers 2 --epochs 2.5 --val 9 --mixup --ema --tensorboard false").tree()
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny))
    assert run_train("--stream false --output-dir kept") == 0

    def kill_a_worker():
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        time.sleep(60)  # the run ends at once, not only when it needs the next image

    assert run_train("--stream true --output-dir run", at_step(7, kill_a_worker)) == 2
    said = Path("output.txt").read_text()
    assert "Traceback" not in said
    assert "error: a worker that reads images died" in said and "Killed" in said and "resumes" in said
    assert json.loads(Path("run/result.json").read_text())["status"] == "interrupted"
    assert run_train("--stream true --output-dir run") == 0
    assert "resuming run at step 4" in Path("output.txt").read_text()
    expected, found = learned("kept"), learned("run")
    for outcome in (expected, found):
        del outcome["result"]["data"]  # the fingerprints are made of other things
        outcome["result"]["config_diff"]["data"].pop("stream")
        del outcome["state"]["config"], outcome["state"]["checks"]["origin"]
    for part in expected:
        assert found[part] == expected[part], part


def run_in_a_group(line: str, when=lambda: None) -> int:
    """Start a run and its workers as one process group, as a terminal does; returns its id."""

    def patch():
        os.setsid()
        when()

    return start_train(line, patch)


def all_gone(group: int) -> bool:
    for _ in range(100):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, 0)
            time.sleep(0.1)
            continue
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_no_process(images, tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    tiny = config_of(images, "--workers 2 --epochs 2 --tensorboard false --stream true").tree()
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny))

    def stop():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as train.py has it
        os.killpg(0, number)
        time.sleep(60)

    group = run_in_a_group("--output-dir run", at_step(7, stop))
    assert wait(group) == 130
    assert all_gone(group)
    said = Path("output.txt").read_text()
    assert "interrupted; the same command resumes" in said and "Traceback" not in said
    assert json.loads(Path("run/result.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(("damage", "workers"), [("corrupt", 2), ("vanished", 0)])
def test_an_image_that_cannot_be_read_is_named_in_one_line(own, monkeypatch, damage, workers):
    monkeypatch.chdir(own.parent)
    line = f"--workers {workers} --epochs 2 --tensorboard false --stream true --output-dir run"
    Path("tiny.yaml").write_text(yaml.safe_dump(config_of(own, line).tree()))
    path = own / "train" / "b" / "3.png"

    def break_it():
        path.write_bytes(path.read_bytes()[:60]) if damage == "corrupt" else path.unlink()

    # An epoch has five batches, so that of step 5 is read, if it is at all, after it is broken.
    group = run_in_a_group("", at_step(0, break_it))
    assert wait(group) == 2
    assert all_gone(group)
    lines = Path("output.txt").read_text().splitlines()
    assert f"note: images in {own}: 42 training and 15 test, of 3 classes" in lines
    (error,) = [line for line in lines if line.startswith("error")]
    assert error == lines[-1] and error.startswith(f"error: cannot read {path}")


def test_each_training_process_reads_its_shard_of_a_batch(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    processes = 3  # which do not divide a batch of 8
    line = "--workers 0 --epochs 1 --tensorboard false --stream true --output-dir run"
    Path("small.yaml").write_text(yaml.safe_dump(config_of(images, line).tree()))
    build_dataset(config_of(images, line))  # measures mean and deviation
    kept, _ = data_of(images, "--stream false")

    def watch():
        read, step = [], lib.run.fit.train_step
        files.decode = lambda path, *how: read.append(path) or decode(path, *how)

        def compared(run, number):
            run.data.at(number)
            with open(f"read{os.environ['RANK']}", "a") as file:
                file.write(f"{len(read)} {torch.equal(run.data.at(number).x, kept.at(number).x)}\n")
            read.clear()
            return step(run, number)

        lib.run.fit.train_step = compared

    assert run_distributed(processes, "", watch) == [0] * processes
    shard = -(-8 // processes)
    for rank in range(processes):
        assert Path(f"read{rank}").read_text().splitlines() == [f"{shard} True"] * kept.steps_per_epoch
    with np.load("run/predictions.npz") as arrays:
        assert len(arrays["logits"]) == CLASSES * TEST


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "said"), [("256k", "test accuracy"), ("2500k", "test accuracy"), ("8k", "give --data.workers 0")]
)
def test_workers_neither_hang_nor_fail_in_silence_where_shared_memory_is_full(images, tmp_path, size, said):
    """A container has 64 MB of it; here it is smaller than the batches, or than what starts processes."""
    limited = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    unshared = ["unshare", "-rm", "sh", "-c", limited, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*unshared, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not allow a file system of one's own")
    line = f"--dataset folder:{images} --image-size 64 --model wrn_10_1 --batch-size 8 --no-crop --epochs 1"
    more = f"--device cpu --workers 2 --stream true --tensorboard false --output-dir {tmp_path / 'run'}"
    command = [*unshared, sys.executable, "train.py", *line.split(), *more.split()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in found.stderr and said in found.stdout + found.stderr
    assert found.returncode == (0 if "accuracy" in said else 2)
