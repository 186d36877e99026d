"""What a person can get wrong ends in one line, exit code 2, and nothing lost on disk."""

import contextlib
import errno
import fcntl
import os
import pickle
import resource
import shutil
import socket
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lib.data.cifar
import lib.run.fit
import lib.store.checkpoint
import train
from tests.helpers.runs import TINY

TRAIN = Path(train.__file__)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(code: int, stderr: str, *parts: str) -> None:
    assert code == 2
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1 and stderr.endswith("\n")
    for part in parts:
        assert part in stderr


@pytest.fixture
def refused(tiny, capfd, tmp_path):
    """Runs a command line on the tiny configuration: it must end in one line that holds every one of `parts`.

    capfd and not capsys: what C++ or another thread writes to stderr counts too.
    """

    def run(line: str, *parts: str, changes: bool = False) -> None:
        before = files(tmp_path)
        with warnings.catch_warnings(record=True) as warned:  # a warning would be a second line
            code = train.main(["--config", tiny, *line.split()])
        assert not warned
        one_line(code, capfd.readouterr().err, *parts)
        assert changes or files(tmp_path) == before

    return run


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """The folder of a tiny run that is complete. Only to be copied."""
    place = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(place):
        Path("tiny.yaml").write_text(TINY)
        assert train.main(["--config", "tiny.yaml", "--output-dir", "run"]) == 0
    return place / "run"


@pytest.fixture
def run_folder(whole, tiny) -> Path:
    """A run folder `run` that lacks only its result, so the same command reads the checkpoint."""
    shutil.copytree(whole, "run")
    Path("run/result.json").unlink()
    return Path("run")


# What the line says: the setting, where it stands, and the way out.
LINES = {
    "an unknown model": ("--model resnt20", "--model (command line)", "unknown model 'resnt20'", "resnet20"),
    "an unknown flag": ("--cutuot", "unknown setting 'cutuot'", "did you mean cutout?"),
    "an unknown flag with a value": ("--epoch 3", "unknown setting 'epoch'", "epochs"),
    "an unknown key": ("train.epoch=3", "train.epoch", "no setting 'epoch'", "epochs"),
    "an unknown section": ("trian.epochs=3", "trian.epochs", "unknown setting", "train.epochs"),
    "a key like no other": ("zzz=3", "zzz (command line)", "unknown setting", "--help"),
    "an unknown field of a trick": ("--augment.cutout.sise 3", "cutout has no setting 'sise'", "size"),
    "an unknown dataset": ("--dataset cifar11", "unknown dataset 'cifar11'", "cifar10"),
    "an unknown choice": ("--precision fp17", "--precision", "expected one of fp32, bf16, fp16", "'fp17'"),
    "an unknown optimizer": ("--optim adamv", "unknown optimizer 'adamv'", "adamw"),
    "an unknown optimizer of timm": ("--optim timm/adamww", "timm has no optimizer 'adamww'", "adamw"),
    "an unknown schedule": ("--schedule cosin", "unknown schedule 'cosin'", "cosine"),
    "an unknown loss": ("--loss cros_entropy", "unknown loss", "cross_entropy"),
    "an unknown kind to list": ("--list modles", "modles", "models"),
    "a word that is no flag": ("resnet20", "'resnet20' is neither a flag nor a key", "--key value"),
    "a flag without its value": ("--epochs", "--epochs needs a value"),
    "text for a number": ("--batch-size many", "--batch-size", "expected a whole number, got 'many'"),
    "a fraction for a count": ("--accumulate 1.5", "--accumulate", "expected a whole number, got '1.5'"),
    "infinity for a number": ("--lr inf", "--lr", "expected a number, got 'inf'"),
    "text for a switch": ("--nesterov=perhaps", "--nesterov", "expected true or false"),
    "a number for a switch": ("--channels-last=7", "--channels-last", "expected true or false"),
    "no for a setting that is no switch": ("--no-epochs", "epochs is not a boolean option"),
    "no epochs": ("--epochs 0", "--epochs (command line)", "epochs must be above 0, got 0.0"),
    "no batch": ("--batch-size 0", "--batch-size", "batch_size must be at least 1, got 0"),
    "a negative seed": ("--seed -1", "--seed", "seed must be at least 0"),
    "a clip of 0": ("--clip 0", "--clip", "clip must be above 0"),
    "more micro-batches than images": ("--accumulate 17", "--accumulate", "from 1 to batch_size, got 17"),
    "too large a fraction": ("--fraction 1.5", "--fraction", "at most 1, got 1.5"),
    "too small a fraction": ("--fraction 0.001", "data: fraction must be large enough"),
    "too large a validation part": ("--val 100", "data: val must be", "got 100"),
    "too small a data set": ("--data.size 4", "dataset synthetic: size must be at least 16, got 4"),
    "a batch larger than the set": ("--batch-size 65", "65 images", "training set of 64", "from 1 to 64"),
    "a cutout without size": ("--cutout-size 0", "--cutout-size", "size must be at least 1, got 0"),
    "a probability above 1": ("--mixup-prob 2", "--mixup-prob", "prob must be above 0 and at most 1"),
    "a crop that its image cannot mirror": (
        "--crop-padding 8 --crop-mode reflect",
        "images of (3, 8, 8)",
        "mode must be zero to move images of 8x8",
    ),
    "an end before the beginning": ("--mixup --mixup-start 1 --mixup-stop 1", "mixup: stop must be above"),
    "a beginning after the end of the run": (
        "--mixup True --mixup-start 2",
        "augmentation mixup: start must be below the run's 2 epochs, got 2",
    ),
    "small images for a model of one size": (
        "--model vit_tiny --progressive-resizing",
        "images of (3, 4, 4) that progressive_resizing makes in epoch 0",
    ),
    "views that an image does not have": ("--tta-ten-crop 8", "view tta_ten_crop", "images of (3, 8, 8)"),
    "views without a shift": ("--tta-shifts 0", "--tta-shifts", "pixels must be at least 1, got 0"),
    "a negative learning rate": ("--lr -1", "optimizer sgd: lr must be above 0, got -1"),
    "a momentum of 1": ("--momentum 1", "optimizer sgd: momentum must be at least 0 and below 1"),
    "a negative radius": ("--sam-rho -1", "wrapper sam: rho"),
    "a decay of 1": ("--ema-decay 1", "average ema: decay"),
    "a negative warm-up": ("--warmup -1", "--warmup", "warmup must be at least 0"),
    "a warm-up beyond the budget": ("--warmup 3", "schedule multistep: warmup must be shorter", "2 epochs"),
    "a milestone beyond the budget": (
        "--milestones 1,5",
        "schedule multistep: milestones",
        "within 2 epochs",
    ),
    "a peak beyond the budget": ("--schedule onecycle --peak 3", "schedule onecycle: peak must be within"),
    "a model for larger images": (
        "--model resnet9 --image-size 4",
        "the model cannot take images of (3, 4, 4)",
    ),
    "a micro-batch that BatchNorm cannot take": (
        "--model resnet_preact --batch-size 1 --image-size 4",
        "1 at once",
        "more than 1 value per channel",
    ),
    "a setting of another optimizer": ("--optim adamw --momentum 0.5", "adamw has no setting 'momentum'"),
    "two values for one setting": ("--lr 0.1 optim.lr=0.2", "--lr", "optim.lr", "conflict"),
    "a part of what is switched off": (
        "--no-cutout --cutout-size 8",
        "--no-cutout",
        "--cutout-size",
        "remove one of them",
    ),
    "a proxy that is not known": ("--proxy-model resnt20", "selection proxy: unknown model", "resnet20"),
    "a proxy for larger images": ("--proxy", "selection proxy: model airbench96_proxy: image_size", "got 8"),
    "a proxy that keeps all": ("--proxy-keep 1", "selection proxy: keep must be above 0 and below 1"),
    "a proxy that keeps no image": ("--proxy-keep 0.01", "selection proxy: keep must", "some of 16 images"),
    "a proxy that never learns": ("--proxy-every 0", "selection proxy: every must be at least 1, got 0"),
    "two ways to climb": ("--sam --asam", "asam and sam", "choose one"),
    "legacy statistics of a set without": ("--normalize legacy", "no legacy statistics", "standard"),
    "a device of no kind": ("--device tpux", "'tpux' is none of auto, cpu, cuda"),
    "weights that are nowhere": ("--init-from nowhere.pt", "there is no checkpoint nowhere.pt"),
    "an output folder below a file": ("--output-dir tiny.yaml/run", "cannot write in tiny.yaml/run"),
    "an output folder where none can be": ("--output-dir /proc/run", "cannot write in /proc/run"),
    "an output folder with too long a name": (f"--name {'n' * 300}", "File name too long", "--output-dir"),
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_it_is_refused_in_one_line(refused, line):
    refused(*line)


FILES = {
    "a missing file": (None, "there is no such file"),
    "a missing key": ("trian: {epochs: 3}", "trian.epochs (bad.yaml)", "unknown setting"),
    "an unknown key": ("train: {epoch: 3}", "train.epoch (bad.yaml)", "no setting 'epoch'", "epochs"),
    "a key of two lines": ('"tr\\nain": 3', "(bad.yaml)", "unknown setting"),
    "an unknown trick": ("augment: {cutuot: true}", "augment.cutuot (bad.yaml)", "cutout"),
    "a wrong type": ("train: {epochs: [1, 2]}", "train.epochs (bad.yaml)", "expected a number"),
    "true for a number": ("train: {batch_size: true}", "train.batch_size (bad.yaml)", "a whole number"),
    "no YAML": ("train: {epochs: 3", "--config bad.yaml, line 1"),
    "bytes": ("\0\1\2", "--config bad.yaml"),
    "a value that is none": ("train: {seed: 2001-99-99}", "--config bad.yaml"),
    "a key twice": ("train:\n  epochs: 3\n  epochs: 4\n", "bad.yaml, line 2", "'epochs' was given twice"),
    "a list": ("- train\n- epochs\n", "--config bad.yaml", "key: value, got list"),
    "text": ("train", "--config bad.yaml", "key: value, got str"),
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_file_is_refused_in_one_line(refused, text):
    text, *parts = text
    if text is not None:
        Path("bad.yaml").write_text(text)
    refused("--config bad.yaml", *parts)


def test_a_folder_is_no_configuration(refused):
    refused("--config .", "--config .", "Is a directory")


def test_a_file_of_that_name_nearby_is_suggested(refused):
    Path("configs").mkdir()
    Path("configs/long.yaml").write_text("")
    refused("--config configs/lang.yaml", "did you mean configs/long.yaml?")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("line", ["--device cuda", "--device cuda:1", "--gpu 0"])
def test_a_gpu_where_there_is_none_is_refused(refused, line):
    refused(line, "this machine has", "use --device")


# Data


@pytest.fixture
def dead(monkeypatch):
    """CIFAR-10 has mirrors that do not answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    urls = tuple(f"http://127.0.0.1:{port}/{n}/cifar-10-binary.tar.gz" for n in (1, 2))
    monkeypatch.setattr(lib.data.cifar, "CIFAR10", replace(lib.data.cifar.CIFAR10, urls=urls))


def test_missing_data_are_refused_offline(refused, tmp_path):
    line = f"--dataset cifar10 --offline --root {tmp_path}/data"
    refused(line, "cifar-10-binary.tar.gz", f"{tmp_path}/data", "--offline", "--dataset digits")


def test_missing_data_are_refused_where_no_mirror_answers(refused, dead, tmp_path):
    line = f"--dataset cifar10 --root {tmp_path}/data"
    refused(line, "no mirror has it", "Connection refused", "--dataset digits")


def test_data_are_not_put_below_a_file(refused, dead):
    refused("--dataset cifar10 --root tiny.yaml/data", "cannot write tiny.yaml/data", "--root")


def records(count: int, label: int) -> None:
    """The first file of CIFAR-10, with `count` black images of this class."""
    folder = Path("data/cifar-10-batches-bin")
    folder.mkdir(parents=True)
    with open(folder / "data_batch_1.bin", "wb") as file:
        file.write(bytes([label]))
        file.truncate(count * 3073)


def test_a_truncated_data_file_is_refused(refused):
    records(count=9_999, label=3)
    refused("--dataset cifar10 --root data", "data_batch_1.bin is damaged", "30730000 bytes", "delete data/")


def test_a_data_file_with_an_impossible_class_is_refused(refused):
    records(count=10_000, label=200)
    refused("--dataset cifar10 --root data", "data_batch_1.bin is damaged", "classes below 10", "[200]")


def test_an_archive_with_another_md5_is_refused(refused):
    Path("data").mkdir()
    Path("data/cifar-10-binary.tar.gz").write_bytes(b"<html>404</html>")
    refused("--dataset cifar10 --root data", "is damaged", "md5", "delete data/cifar-10-binary.tar.gz")


# Checkpoints


class Bomb:
    """Leaves a file behind when it is unpickled."""

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


@pytest.mark.parametrize("line", ["--output-dir run", "--init-from run --output-dir new"])
def test_a_checkpoint_of_another_program_is_refused(refused, run_folder, line):
    path = run_folder / "last.pt"
    torch.save(lib.store.checkpoint.load(path)["model"], path)
    refused(line, "run/last.pt is not a checkpoint of this program", changes="new" not in line)


def test_a_checkpoint_of_another_version_is_refused(refused, run_folder):
    path = run_folder / "last.pt"
    torch.save(lib.store.checkpoint.load(path) | {"format": 99}, path)
    refused("--output-dir run", "has format 99", changes=True)


def test_the_weights_of_another_model_are_refused(refused, run_folder):
    refused("--init-from run --model resnet32 --output-dir new", "another model's", "--model they were")


# Run folders


def test_a_folder_of_another_configuration_is_refused(refused, run_folder):
    refused("--output-dir run --lr 0.2", "run holds another configuration", "optim.lr: 0.1 there, 0.2 here")
    refused("--output-dir run --cutout", "run holds another configuration", "give another --output-dir")


def test_another_program_s_folder_is_left_alone(refused):
    Path("theirs").mkdir()
    Path("theirs/config.yaml").write_text("lr: {base: 3}\n")
    refused("--output-dir theirs", "theirs holds another configuration")


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "config.yaml"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b'{"format": 1, "st', b"[]", b'"text"', b"{}", b'{"step": {}}', b"- - :"]
)
def test_a_corrupt_record_is_refused(refused, run_folder, name, content):
    (run_folder / name).write_bytes(content)
    changes = name == "metrics.jsonl"  # it is read last, by a process that has begun to train
    refused("--output-dir run", "run", "move", changes=changes)
    assert (run_folder / name).read_bytes() == content


def test_metrics_that_end_before_the_checkpoint_are_refused(refused, run_folder):
    path = run_folder / "metrics.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    refused("--output-dir run", "metrics.jsonl cannot be read", "move run away", changes=True)
    path.unlink()
    refused("--output-dir run", "run/metrics.jsonl does not", "move run away", changes=True)


def test_a_folder_in_use_is_refused_while_it_is_used(refused, tiny, capfd, monkeypatch):
    step = lib.run.fit.train_step

    def second_process(run, number):
        if number == 5:
            refused("", "another process is training in", "wait for it")
        return step(run, number)

    monkeypatch.setattr(lib.run.fit, "train_step", second_process)
    assert train.main(["--config", tiny]) == 0
    assert "complete" not in capfd.readouterr().out


def test_what_is_refused_leaves_its_folder_to_the_corrected_command(refused, tiny):
    refused("--output-dir run --cutout-size 0", "size must be at least 1")
    assert train.main(["--config", tiny, "--output-dir", "run", "--cutout-size", "4"]) == 0


# Disks, memory, processes


def finishes_now(tiny: str) -> None:
    """Once there is room, the same command goes on from the checkpoint that the full disk left."""
    assert lib.store.checkpoint.load(Path("run/last.pt"))["step"] == 4
    assert not list(Path("run").glob(".*.partial"))
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 0
    assert "resuming run at step 4 of 8" in Path("run/log.txt").read_text()


def test_a_disk_that_fills_up_leaves_the_earlier_checkpoint(refused, tiny, monkeypatch):
    step, limits = lib.run.fit.train_step, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(run, number):
        if number == 5:  # the checkpoint has over 2 MB, and all else less than one
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        return step(run, number)

    with monkeypatch.context() as patch:
        patch.setattr(lib.run.fit, "train_step", fill)
        try:
            refused("--output-dir run", "cannot write run/last.pt", "Free some space", changes=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finishes_now(tiny)


def test_a_rename_without_room_leaves_the_earlier_checkpoint(refused, tiny, monkeypatch):
    rename, seen = os.replace, []

    def no_room(source, target):
        seen.append(Path(target).name)
        if seen.count("last.pt") == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", no_room)
        refused("--output-dir run", "cannot write run/last.pt: No space left on device", changes=True)
    finishes_now(tiny)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_without_room_is_refused(refused):
    Path("run").mkdir()
    Path("run/log.txt").symlink_to("/dev/full")
    refused("--output-dir run", "cannot write run/log.txt: No space left on device", changes=True)


def test_running_out_of_memory_names_the_ways_to_save_it(refused, monkeypatch):
    def full(run, number):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")

    monkeypatch.setattr(lib.run.fit, "train_step", full)
    refused("", "out of memory", "--accumulate", "now 1", "--batch-size", "now 16", changes=True)


def test_one_of_several_processes_that_cannot_find_the_others_is_refused(refused, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused("", "MASTER_ADDR", "torchrun")


@pytest.mark.parametrize("world", ["1", ""])
def test_one_process_of_torchrun_trains(tiny, monkeypatch, world):
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setattr(lib.run.fit, "train_step", lambda run, step: torch.tensor(1.0))
    assert train.main(["--config", tiny]) == 0


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--model resnt20", "resnet20"),
        ("--dataset cifar10 --offline --root nowhere", "cifar-10-binary.tar.gz"),
        ("--config tiny.yaml --output-dir tiny.yaml/run", "cannot write in tiny.yaml/run"),
    ],
)
def test_a_process_ends_in_one_line_too(tiny, tmp_path, line, part):
    before = files(tmp_path)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TRAIN), *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    one_line(done.returncode, done.stderr, part)
    assert done.stdout == ""
    assert files(tmp_path) == before


def test_a_lock_left_by_a_dead_process_is_no_hindrance(tiny):
    Path("run").mkdir()
    with open("run/.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 0
