"""The installed package: the files of the checkout under the name `cifar_zoo`, usable from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
