"""The program needs no module that exists on Unix only."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import TINY

ROOT = Path(__file__).parent.parent

# Our own imports of these fail, as on Windows; those of torch and of the standard library do not.
WITHOUT_UNIX = """
import builtins, sys

UNIX = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
OURS = {"__main__", "lib", "scripts", "train"}
imported = builtins.__import__

def without_unix(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if name in UNIX and importer in OURS:
        raise ModuleNotFoundError(f"no module named {name!r} on Windows")
    return imported(name, globals, locals, fromlist, level)

builtins.__import__ = without_unix
"""
EVERY_MODULE = """
import importlib, pkgutil, lib
for module in pkgutil.walk_packages(lib.__path__, "lib."):
    importlib.import_module(module.name)
"""


def run(program: str, *arguments: str, folder: Path = ROOT) -> str:
    """The output of a program that has no Unix modules."""
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    command = [sys.executable, "-c", f"{path}\n{WITHOUT_UNIX}\n{program}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_test_itself_hides_the_modules():
    with pytest.raises(AssertionError, match="no module named 'fcntl' on Windows"):
        run("import fcntl")


def test_every_module_can_be_imported():
    run(EVERY_MODULE)


def test_help_is_shown_and_a_run_is_trained(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    program = "import train; sys.exit(train.main(sys.argv[1:]))"
    assert "--model" in run(program, "--help", folder=tmp_path)
    run(program, "--config", "tiny.yaml", "--epochs", "1", "--milestones", "0.5", folder=tmp_path)
    assert list(tmp_path.glob("runs/**/result.json"))
