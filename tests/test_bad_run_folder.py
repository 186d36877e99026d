"""Damaged checkpoints and run folders are refused in one line, and left as they are."""

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lib.run.fit
import lib.run.launch
import lib.store.checkpoint
import train
from lib.core.errors import BadInput
from lib.data.cache import cached
from lib.report.records import RunRecord
from lib.report.run_metrics import predictions
from lib.store.run_folder import RunFolder
from tests.helpers.bits import bits
from tests.helpers.runs import TINY


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a complete tiny run; tests copy it."""
    place = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(place):
        Path("tiny.yaml").write_text(TINY)
        assert train.main(["--config", "tiny.yaml", "--output-dir", "run"]) == 0
    return place / "run"


@pytest.fixture
def run_folder(whole, tiny) -> Path:
    """A run folder without its result, so that the same command reads the checkpoint."""
    shutil.copytree(whole, "run")
    Path("run/result.json").unlink()
    return Path("run")


class Bomb:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("line", ["--output-dir run", "--init-from run --output-dir new"])
@pytest.mark.parametrize(
    "corrupt",
    [
        lambda data: b"",
        lambda data: os.urandom(4096),
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"<html>404</html>",
        lambda data: pickle.dumps(Bomb()),
    ],
    ids=["empty", "random", "half", "almost whole", "a web page", "a pickle with code"],
)
def test_a_corrupt_checkpoint_is_refused(refused, run_folder, corrupt, line):
    path = run_folder / "last.pt"
    path.write_bytes(corrupt(path.read_bytes()))
    refused(line, "run/last.pt cannot be read as a checkpoint", "move it away", changes="new" not in line)
    assert not Path("exploded").exists()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def test_a_checkpoint_with_a_changed_byte_is_refused_or_has_the_same_content(run_folder):
    path = run_folder / "last.pt"
    data, expected = path.read_bytes(), bits(lib.store.checkpoint.load(path))
    refusals = 0
    for place in range(0, len(data), len(data) // 150):
        path.write_bytes(flipped(data, place))
        try:  # padding between the records of the archive has no meaning
            assert bits(lib.store.checkpoint.load(path)) == expected, place
        except BadInput:
            refusals += 1
    assert refusals > 100


def test_predictions_with_a_changed_byte_are_refused_or_the_same(whole, run_folder):
    path = run_folder / "predictions.npz"
    record = RunRecord(run_folder, json.loads((whole / "result.json").read_text()))
    data = path.read_bytes()
    expected = [array.tolist() for array in predictions(record)]
    for place in range(0, len(data), 7):
        path.write_bytes(flipped(data, place))
        with contextlib.suppress(BadInput):
            assert [array.tolist() for array in predictions(record)] == expected, place


def test_a_damaged_cache_of_decoded_images_is_decoded_again(tmp_path):
    def decode() -> torch.Tensor:
        return torch.arange(1000)

    assert torch.equal(cached(tmp_path, tmp_path, "decoded", "key", decode), decode())
    file = tmp_path / "decoded.pt"
    data = file.read_bytes()
    for place in range(0, len(data), 97):
        file.write_bytes(flipped(data, place))
        assert torch.equal(cached(tmp_path, tmp_path, "decoded", "key", decode), decode()), place


def test_a_checkpoint_of_another_program_is_refused(refused, run_folder):
    path = run_folder / "last.pt"
    torch.save(lib.store.checkpoint.load(path)["model"], path)
    refused("--output-dir run", "run/last.pt is not a checkpoint of this program", changes=True)


def test_a_checkpoint_of_another_version_is_refused(refused, run_folder):
    path = run_folder / "last.pt"
    torch.save(lib.store.checkpoint.load(path) | {"format": 99}, path)
    refused("--output-dir run", "has format 99", changes=True)


def test_the_weights_of_another_model_are_refused(refused, run_folder):
    refused("--init-from run --model resnet32 --output-dir new", "another model's", "--model they were")


def test_a_folder_of_another_configuration_is_refused(refused, run_folder):
    refused("--output-dir run --lr 0.2", "run holds another configuration", "optim.lr: 0.1 there, 0.2 here")
    refused("--output-dir run --cutout", "run holds another configuration", "give another --output-dir")


def test_the_folder_of_another_program_is_refused(refused):
    Path("theirs").mkdir()
    Path("theirs/config.yaml").write_text("lr: {base: 3}\n")
    refused("--output-dir theirs", "theirs holds another configuration")


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "config.yaml"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b'{"format": 1, "st', b"[]", b'"text"', b"{}", b'{"step": {}}', b"- - :"]
)
def test_a_corrupt_record_is_refused(refused, run_folder, name, content):
    (run_folder / name).write_bytes(content)
    changes = name == "metrics.jsonl"  # read last, after training has begun
    refused("--output-dir run", "run", "move", changes=changes)
    assert (run_folder / name).read_bytes() == content


def test_metrics_that_end_before_the_checkpoint_or_were_changed_are_refused(refused, run_folder):
    path = run_folder / "metrics.jsonl"
    text = path.read_text()
    path.write_text(text.splitlines(keepends=True)[0])
    refused("--output-dir run", "metrics.jsonl cannot be read", "move run away", changes=True)
    path.write_text(text.replace('"lr": 0.1', '"lr": 0.9'))
    refused("--output-dir run", "metrics.jsonl cannot be read", "move run away", changes=True)
    path.unlink()
    refused("--output-dir run", "run/metrics.jsonl does not", "move run away", changes=True)


def test_a_folder_is_locked_while_a_run_trains_in_it(refused, tiny, capfd, monkeypatch):
    step = lib.run.fit.train_step

    def second_process(run, number):
        if number == 5:
            refused("", "another process is training in", "wait for it")
        return step(run, number)

    monkeypatch.setattr(lib.run.fit, "train_step", second_process)
    assert train.main(["--config", tiny]) == 0
    assert "complete" not in capfd.readouterr().out


def test_the_corrected_command_may_use_the_folder_of_a_refused_one(refused, tiny):
    refused("--output-dir run --cutout-size 0", "size must be at least 1")
    assert train.main(["--config", tiny, "--output-dir", "run", "--cutout-size", "4"]) == 0


def test_a_process_that_was_refused_may_train_in_the_folder_again(tiny, monkeypatch):
    kept = []  # as the traceback of a notebook keeps what it shows

    def stop(run, number):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lib.run.fit, "train_step", stop)
        patch.setattr(lib.run.launch, "RunFolder", lambda config: kept.append(RunFolder(config)) or kept[-1])
        assert train.main(["--config", tiny, "--output-dir", "run"]) == 130
    assert kept
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 0


def test_the_lock_of_a_dead_process_is_released(tiny):
    Path("run").mkdir()
    lock = "import os, filelock; filelock.FileLock('run/.lock').acquire(); os._exit(0)"
    subprocess.run([sys.executable, "-c", lock], check=True)
    assert Path("run/.lock").exists()
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 0
