"""What a person sees: summary and dry run; and how a new file becomes a trick."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import train
from lib.core.registry import augmentations, models

ROOT = Path(__file__).parent.parent


@pytest.fixture
def shown(capsys):
    """Runs a command line and gives what it prints; it must succeed."""

    def run(line: str) -> str:
        assert train.main(line.split()) == 0
        return capsys.readouterr().out

    return run


def test_the_summary_counts_every_parameter(shown):
    # torchsummary alone misses the class token and the positions, which belong to no leaf module.
    text = shown("--summary --model vit")
    assert f"{models['vit'].facts.params:,} parameters, " in text
    assert "Conv2d" in text


def test_the_dry_run_shows_the_plan_and_trains_nothing(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = shown("--dry-run --model resnet20 --epochs 10 --schedule cosine --lr 0.2")
    assert "269,722 parameters" in text
    # 3x3 convolutions on 32, 16 and 8 pixels a side, and a linear layer: the paper's section 4.2.
    stages = 6 * 16 * 16 * 32**2 + sum((c // 2 + 5 * c) * c * s**2 for c, s in ((32, 16), (64, 8)))
    assert f"{9 * (3 * 16 * 32**2 + stages) + 640:,} MACs for 3x32x32" in text
    assert "3,900: 10 epochs of 390 batches of 128 images" in text
    assert "50,000 training, 10,000 test images, 10 classes" in text
    assert "0.2 0.19511" in text  # 0.1 * (1 + cos(pi / 10))
    assert list(tmp_path.iterdir()) == []


TOY = '''"""Toy (Author 2026): invert the colours."""

from dataclasses import dataclass

from lib.augment.pipeline import Augmentation
from lib.core.facts import Stage
from lib.core.registry import augmentations


@augmentations.register("toy", stage=Stage.COLOR, paper="Author 2026")
@dataclass(frozen=True)
class Toy(Augmentation):
    depth: int = 3  # how far

    def apply(self, batch, rng):
        return batch.replace(x=255 - batch.x)
'''


@pytest.mark.slow
def test_one_new_file_is_a_flag_a_key_a_listing_and_its_contract_tests(tmp_path):
    for name in ("lib", "tests", "train.py", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "lib/augment/toy.py").write_text(TOY)
    (tmp_path / "toy.yaml").write_text("augment: {toy: {depth: 5}}\n")

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "--toy-depth INT" in run("train.py", "--help", "toy")
    assert "toy" in run("train.py", "--list", "augment")
    plan = run("train.py", "--dry-run", "--model", "resnet20", "--config", "toy.yaml")
    assert "toy: {depth: 5}" in plan
    assert "resnet20-toy4-" in run("train.py", "--dry-run", "--model", "resnet20", "--toy", "4")
    collected = run("-m", "pytest", "-n0", "tests/test_augment.py", "--collect-only")
    assert collected.count("[toy") >= 3
    assert "toy" not in augmentations.names()  # the real tree is as it was


def test_help_and_errors_do_not_import_torch():
    for line in ("--help", "--help cutout", "--list models", "--modle resnet20", "--model resnt20"):
        code = f"import sys, train; train.main({line.split()}); sys.exit('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, line
