"""The architecture, held by tests: imports go downward, and each power has one home."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("lib/**/*.py"), ROOT / "train.py"])

# A module imports modules of its own row or of the rows above; the packages know nothing of each other.
ROWS = (
    ("errors", "files", "fields", "rng", "batch", "registry", "trace", "branches", "metrics", "cost", "dist"),
    ("models", "surgery", "init", "augment", "optim", "losses", "data", "distill", "corruptions", "settings"),
    ("log", "precision"),
    ("config", "compose", "legacy", "spelling", "cli", "inform", "step", "evaluate", "checkpoint"),
    ("teacher", "select"),
    ("saved", "build", "plan", "report", "environment", "runfolder", "robustness", "record"),
    ("fit", "trained", "loader", "predict"),
    ("launch", "assess", "grid"),
)
PACKAGES = ("models", "surgery", "init", "augment", "optim", "data", "losses", "distill", "corruptions")

# What is allowed in few places: a pattern, and the places.
POWERS = {
    r"\.backward\(": ("lib/step.py", "lib/precision.py", "lib/build/trial.py"),  # tries a compiled model
    r"manual_seed|torch\.Generator|random\.Random\(|np\.random": ("lib/rng.py",),
    r"torch\.distributed": ("lib/dist.py",),
    r"\bsys\.argv|import argparse": ("train.py", "lib/environment.py", "lib/grid/child.py"),
    r"import yaml|from yaml": ("lib/config.py", "lib/cli.py", "lib/runfolder.py", "lib/report/published.py"),
    r"torch\.load\(": ("lib/checkpoint.py", "lib/data/kept.py"),
}


def _module(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[1] if path.parts[-1] != "train.py" else "train"


def _imports(path: Path) -> set[str]:
    """The top-level parts of lib that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lib":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lib.")}
    return found


def _row(module: str) -> int:
    return next(i for i, row in enumerate(ROWS) if module in row)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent != ROOT], ids=str)
def test_imports_go_downward_only(path):
    module = _module(path)
    if module == "__init__":
        pytest.skip("the package itself imports nothing")
    for imported in _imports(path) - {module}:
        assert _row(imported) <= _row(module), f"{module} imports {imported}, which lies above it"
        both = {module, imported} <= set(PACKAGES)
        assert not both, f"{module} and {imported} must not know each other"


@pytest.mark.parametrize("pattern", POWERS)
def test_each_power_has_one_home(pattern):
    users = {str(p.relative_to(ROOT)) for p in SOURCES if re.search(pattern, p.read_text())}
    assert users <= set(POWERS[pattern])


def test_examples_are_the_programs_of_a_user():
    # A loop of one's own calls `backward` and seeds what it likes, so no power is held back from examples. In
    # turn they know what a user is told of, nothing private, and the project knows nothing of them.
    told = {"loader", "registry", "errors", "report"}
    examples = sorted(ROOT.glob("examples/*.py"))
    assert len(examples) > 2
    for path in examples:
        assert _imports(path) <= told, path
        assert not re.search(r"\._\w", path.read_text()), path
    for path in (*SOURCES, *ROOT.glob("scripts/*.py")):
        assert not re.search(r"(from|import) examples", path.read_text()), path


@pytest.mark.parametrize("path", sorted([*ROOT.glob("lib/**/*.py"), *ROOT.glob("examples/*.py")]), ids=str)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_step_never_waits_for_the_device():
    packages = ("augment", "optim", "distill", "select", "surgery", "corruptions")
    places = ("step", "precision", "teacher", *(f"{package}/*" for package in packages))
    for path in [path for place in places for path in ROOT.glob(f"lib/{place}.py")]:
        assert not re.search(r"\.item\(\)|\.cpu\(\)|\.tolist\(\)|\.numpy\(\)", path.read_text()), path


def test_no_trick_is_named_in_the_loop():
    from lib.registry import REGISTRIES

    kinds = ("augmentation", "wrapper", "average", "distillation", "surgery", "initialisation", "selection")
    named = [REGISTRIES[kind] for kind in kinds]
    names = [name for registry in named for name in registry.names()]
    for path in (ROOT / "train.py", ROOT / "lib/fit.py", *ROOT.glob("lib/build/*.py")):
        words = set(re.findall(r"\w+", path.read_text().lower()))
        assert not words & set(names), path
