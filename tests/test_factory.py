"""Building a run: what it checks first, and what it leaves behind in the process."""

import os
import random
import signal
import sys
import warnings

import numpy as np
import pytest
import torch

import lib.run.fit
import train
from lib.config.cli import parse
from lib.core.errors import BadInput
from lib.factory import augmenting, build, process_of

SMALL = "--dataset synthetic --data.size 16 --data.classes 2 --data.image_size 8 --bs 4 --model resnet20"
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def process() -> dict[str, object]:
    """Everything of the process that a build or a run might change for others."""
    return {
        "deterministic": torch.get_deterministic_debug_mode(),
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn": torch.backends.cudnn.deterministic,
        "precision": torch.get_float32_matmul_precision(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "anomalies": torch.is_anomaly_enabled(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "folder": os.getcwd(),
        "path": list(sys.path),
        "excepthook": sys.excepthook,
        "umask": [os.umask(mask := os.umask(0)), mask][1],
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--deterministic",
        "--deterministic --dry-run",
        "--summary",
        "--sam --ema --mixup",
        "--lr -1",
        "--swa-start 9",
    ],
)
def test_a_command_leaves_the_process_as_it_was(tmp_path, monkeypatch, undrawn, line):
    monkeypatch.chdir(tmp_path)
    train.main(f"{SMALL} --epochs 1 --milestones 0.5 --device cpu".split())  # imports change the process once
    for setting in ({}, {CUBLAS: ":16:8"}):
        for name, value in setting.items():
            monkeypatch.setenv(name, value)
        before = process()
        train.main(f"{SMALL} --epochs 2 --milestones 1 --device cpu {line}".split())
        after = process()
        assert {name for name in before if before[name] != after[name]} == set()


def test_a_build_uses_the_kernels_it_is_asked_for_and_restores_those_of_the_process():
    before = process()
    for line, mode in (("", 0), ("--deterministic", 2)):
        config = parse(f"{SMALL} {line}".split()).config()
        with process_of(config):
            assert torch.get_deterministic_debug_mode() == mode
            assert torch.backends.cudnn.benchmark == (mode == 0)
            assert os.environ.get(CUBLAS) == (":4096:8" if mode else None)
        build(config, torch.device("cpu"), note=pytest.fail)
        assert process() == before


# What is wrong whatever the data are is refused before they are read.
EARLY = {
    "a missing teacher": ("--kd --teacher nowhere", "no checkpoint nowhere"),
    "no teacher": ("--kd", "needs a teacher"),
    "missing weights": ("--init-from nowhere.pt", "no checkpoint nowhere.pt"),
    "a bad schedule": ("--warmup 3", "warmup must be"),
    "a bad augmentation": ("--mixup --mixup-start 7", "mixup: start must be"),
    "too many processes": ("--proxy-keep 0.001", "selection proxy: keep"),
}


@pytest.mark.parametrize("case", EARLY.values(), ids=EARLY)
def test_what_is_cheap_to_check_is_checked_before_the_data(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line, message = case
    config = parse(f"--dataset cifar10 --model resnet20 --epochs 2 --milestones 1 {line}".split()).config()
    with pytest.raises(BadInput, match=message):
        build(config, torch.device("cpu"), pytest.fail, get_dataset=pytest.fail)


def test_an_interruption_says_whether_there_is_a_checkpoint(tmp_path, monkeypatch, undrawn, capfd):
    monkeypatch.chdir(tmp_path)
    line = f"{SMALL} --epochs 2 --milestones 1 --device cpu --no-tensorboard --output-dir run".split()
    step = lib.run.fit.train_step

    for last, said in (
        (2, "starts again, as there is no checkpoint yet"),
        (5, "resumes from the last checkpoint"),
    ):

        def interrupted(run, number, last=last):
            if number == last:
                raise KeyboardInterrupt
            return step(run, number)

        monkeypatch.setattr(lib.run.fit, "train_step", interrupted)
        assert train.main(line) == 130
        assert capfd.readouterr().err == f"interrupted; the same command {said}\n"


def test_an_error_of_the_user_within_a_check_passes_unchanged():
    with pytest.raises(BadInput, match=r"^cannot read cat.png$"), augmenting((3, 8, 8)):
        raise BadInput("cannot read cat.png")
    with (
        pytest.raises(BadInput, match="cannot be augmented so: too small"),
        augmenting((3, 8, 8)),
    ):
        raise ValueError("too small")
