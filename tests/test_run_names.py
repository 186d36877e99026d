"""The names of run folders: what tells runs apart, and what does not."""

import re
import shlex
from pathlib import Path

import pytest

from lib.config.cli import parse
from lib.core.registry import augmentations


def config(line: str):
    return parse(shlex.split(line)).config()


@pytest.fixture(autouse=True)
def _in_a_folder_without_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_run_folder_follows_what_is_learned_and_nothing_else():
    base = config("--model resnet20")
    same = config("--model resnet20 --device cpu --root /x --offline --save-every 5")
    assert same.folder() == base.folder()
    assert config("--model resnet20 --seed 3").folder().parent == base.folder().parent
    assert config("--model resnet20 --lr 0.2").digest() != base.digest()
    assert config("--model resnet20 --cutout --sam").folder().parent.name.startswith("resnet20-cutout-sam-")
    assert config("--model resnet20 --name mine").folder().parent.name == f"mine-{base.digest()}"
    assert str(config("train.output_dir runs/x").folder()) == "runs/x"


def test_the_names_of_run_folders_tell_runs_apart_by_the_values_that_they_change():
    names = {
        "--cutout 8": "resnet20-cutout8",
        "--cutout 12 --lr 0.05": "resnet20-cutout12-lr0.05",
        "--cutout --cutout-prob 0.5": "resnet20-cutout_prob0.5",
        "--no-flip --lr 1e-3": "resnet20-no_flip-lr0.001",
        "--optim adamw --schedule cosine --epochs 30": "resnet20-adamw-cosine-epochs30",
        "--milestones 0.3,0.6 --precision bf16": "resnet20-milestones0.3_0.6-precision_bf16",
        "--kd --teacher 'a b',c=d": "resnet20-kd-teacher_a_b_c_d",
    }
    for line, name in names.items():
        one = config(f"--model resnet20 {line}")
        assert one.folder() == Path("runs/cifar10", f"{name}-{one.digest()}", "seed0")


def test_the_name_of_a_run_folder_is_short_and_needs_no_quotes():
    tricks = [f"--{entry.name}" for entry in augmentations.entries() if not entry.placeholders]
    name = config(" ".join(tricks)).folder().parent.name
    assert len(name) <= 100 and re.fullmatch(r"[\w.+-]+", name)


def test_a_run_folder_that_is_named_by_model_and_tricks_alone_is_used_again():
    runs = [config(f"--model resnet20 --cutout 8 --seed {seed}") for seed in (0, 1)]
    former = Path("runs/cifar10", f"resnet20-cutout-{runs[0].digest()}")
    assert runs[0].folder().parent != former
    former.mkdir(parents=True)
    assert [one.folder() for one in runs] == [former / "seed0", former / "seed1"]
