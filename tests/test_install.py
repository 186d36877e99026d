"""The installed package: the files of the checkout under the name `cifar_zoo`, usable from any folder."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from lib.core.errors import MODULES
from tests.helpers.refusals import one_line

ROOT = Path(__file__).parent.parent

# A training loop of a user: nothing of ours but the parts.
LOOP = """
import torch, {package}
from {package}.augment.cutmix import CutMix
from {package}.optim.ema import EMA
from {package}.optim.sam import SAM

model = {package}.create_model("resnet20", num_classes=10)
optimizer, average = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05), EMA(model)
x, y = CutMix()(torch.randn(8, 3, 32, 32), torch.arange(8), num_classes=10, seed=0)

def closure():
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss

before = [p.clone() for p in model.parameters()]
print(float(optimizer.step(closure)))
average.update(model)
assert any((a != b).any() for a, b in zip(before, model.parameters()))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds what the wheel installs."""
    place = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in (name for name in files if name.startswith("lib/") or "/" not in name):
        if name and (ROOT / name).exists():
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / "source" / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(place)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=place / "source", check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


PROGRAMS = [["train.py"], *(["-m", f"scripts.{path.stem}"] for path in sorted(ROOT.glob("scripts/[!_]*.py")))]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program[-1])
def test_a_program_without_its_packages_names_make_setup_in_one_line(program):
    bare = subprocess.run(
        [sys.executable, "-S", *program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    one_line(bare.returncode, bare.stderr, "has no torch", "make setup")


def test_every_package_that_is_required_is_looked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.match(r"[\w-]+", line)[0].lower() for line in project["dependencies"]}
    owners = importlib.metadata.packages_distributions()
    assert {re.sub("_", "-", owners[module][0].lower()) for module in MODULES} == required


def run(path: Path, cwd: Path, *command: str) -> str:
    """What a command prints, run in `cwd` with the modules of `path`."""
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | {"PYTHONPATH": str(path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_files_of_the_checkout(installed):
    tracked = subprocess.run(
        ["git", "ls-files", "lib"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    expected = {name.removeprefix("lib/") for name in tracked if (ROOT / name).exists()}
    found = {str(p.relative_to(installed / "cifar_zoo")) for p in (installed / "cifar_zoo").rglob("*.*")}
    assert expected <= found
    assert {p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")} == {"cifar_zoo"}


def test_a_loop_of_plain_pytorch_gives_the_same_installed_and_in_the_checkout(installed, tmp_path):
    seeded = "import torch; torch.manual_seed(0)\n" + LOOP
    outputs = [
        run(path, tmp_path, "-c", seeded.format(package=package))
        for path, package in ((installed, "cifar_zoo"), (ROOT, "lib"))
    ]
    assert outputs[0] == outputs[1] != ""


def test_the_console_command_trains_from_an_empty_folder(installed, tmp_path):
    entry_points = next(installed.glob("*.dist-info")) / "entry_points.txt"
    assert "cifar-zoo = cifar_zoo.__main__:console" in entry_points.read_text()
    flags = "--dataset synthetic --data.size 64 --epochs 1 --batch-size 16 --model resnet20 --device cpu"
    run(installed, tmp_path, "-m", "cifar_zoo", *flags.split(), "--output-dir", "run", "--no-tensorboard")
    assert (tmp_path / "run" / "result.json").exists()


def test_importing_the_package_does_not_import_torch(installed, tmp_path):
    code = "import sys, cifar_zoo; cifar_zoo.list_models('wrn*'); assert 'torch' not in sys.modules"
    run(installed, tmp_path, "-c", "import cifar_zoo; cifar_zoo.list_models()")  # writes the index
    run(installed, tmp_path, "-c", code)
