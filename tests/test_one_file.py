"""One new file is enough: a model, augmentation, wrapper, loss or data set passes all contracts."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

WRAPPER = '''
"""Sign descent: the sign of the gradient in place of the gradient."""

from torch import Tensor

from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .wrapper import GradientMap


@wrappers.register("toy_wrapper", order=WrapperOrder.CENTRE, amplifies_rounding=True)
class ToyWrapper(GradientMap):
    """Take the sign of the gradient."""

    def change(self, params: list[Tensor]) -> None:
        for p in params:
            p.grad.sign_()
'''

LOSS = '''
"""Squared error of the probabilities (Brier 1950)."""

from dataclasses import dataclass

from torch import Tensor

from ..core.batch import Batch, accepts_targets
from ..core.contracts import Positive
from ..core.registry import losses


@losses.register("toy_loss")
@dataclass(frozen=True)
class ToyLoss:
    scale: Positive = 1.0  # factor of the loss

    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        return self.scale * (logits.float().softmax(1) - batch.y).square().sum(1)
'''

DATA = '''
"""Stripes: two classes of small images, horizontal and vertical stripes."""

import torch

from ..core.contracts import Count
from ..core.registry import datasets
from .base import Dataset, Split


@datasets.register("toy_data")
def toy_data(
    size: Count = 64,  # training images
) -> Dataset:
    """Horizontal and vertical stripes."""
    y = torch.arange(size) % 2
    stripes = (torch.arange(8) % 2 * 255).to(torch.uint8).expand(3, 8, 8)
    x = torch.stack([stripes.mT if k else stripes for k in y])
    return Dataset(Split(x, y), Split(x, y), classes=("across", "down"), mean=(0.5,) * 3, std=(0.5,) * 3)
'''


def code_of_the_guide(file: str) -> str:
    """The Python block of docs/adding.md that follows the name of a file."""
    return re.search(rf"`{file}`:\n\n```python\n(.*?)```", (ROOT / "docs/adding.md").read_text(), re.DOTALL)[
        1
    ]


def toys() -> dict[str, str]:
    return {
        "lib/models/toy_model.py": code_of_the_guide("lib/models/tiny.py").replace('"tiny"', '"toy_model"'),
        "lib/augment/toy_augment.py": code_of_the_guide("lib/augment/invert.py").replace(
            '"invert"', '"toy_augment"'
        ),
        "lib/optim/toy_wrapper.py": WRAPPER.lstrip(),
        "lib/losses/toy_loss.py": LOSS.lstrip(),
        "lib/data/toy_data.py": DATA.lstrip(),
    }


@pytest.mark.slow
def test_five_new_files_pass_every_contract_without_another_edit(tmp_path):
    for folder in ("lib", "tests", "scripts", "configs", "docs", "results", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("train.py", "pyproject.toml", "setup.py", "README.md", "Makefile"):
        shutil.copy(ROOT / file, tmp_path / file)
    for file, text in toys().items():
        (tmp_path / file).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-k", "toy_", "-vv"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    for toy in ("model", "augment", "wrapper", "loss", "data"):
        assert f"toy_{toy}" in done.stdout
    flags = "--model toy_model --toy-augment --toy-wrapper --loss toy_loss --dataset toy_data --device cpu"
    command = f"{flags} --epochs 1 --batch-size 16 --output-dir run"
    done = subprocess.run(
        [sys.executable, "train.py", *command.split()],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "result.json").exists()
