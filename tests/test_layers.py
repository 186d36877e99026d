"""The architecture, held by tests: imports go downward, and each power has one home."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("lib/**/*.py"), ROOT / "train.py"])

# A package imports only packages on floors below its own; those of one floor do not know each other.
TRICKS = (
    "models", "augment", "optim", "losses", "data", "surgery", "init", "distill", "corruptions", "select",
)  # fmt: skip
FLOORS = (
    ("core",),
    ("graph",),
    TRICKS,
    ("config", "engine"),
    ("store",),
    ("factory", "report"),
    ("run",),
    ("loader", "grid"),
    ("__main__",),
)

# What is allowed in few places: a pattern, and the places.
POWERS = {
    r"\.backward\(": (
        "lib/engine/step.py",
        "lib/core/precision.py",
        "lib/factory/compiling.py",
        "lib/graph/cost.py",
    ),
    r"manual_seed|torch\.Generator|random\.Random\(|np\.random": ("lib/core/rng.py",),
    r"torch\.distributed": ("lib/core/dist.py",),
    r"\bsys\.argv|import argparse": (
        "lib/__main__.py",
        "lib/store/environment.py",
        "lib/grid/guard.py",
        "lib/grid/capacity.py",
    ),
    r"import yaml|from yaml": (
        "lib/config/schema.py",
        "lib/config/sources.py",
        "lib/store/run_folder.py",
        "lib/report/published.py",
    ),
    r"torch\.load\(": ("lib/core/files.py",),
}


def _package(path: Path) -> str:
    """The part of lib that a file belongs to: a package, or a module at the top."""
    return path.relative_to(ROOT / "lib").with_suffix("").parts[0]


def _imports(path: Path) -> set[str]:
    """The parts of lib that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            here = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            whole = [*here, *(node.module or "").split(".")]
            if whole[0] == "lib":
                found |= {whole[1]} if whole[1:] and whole[1] else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lib.")}
    return found


def _floor(package: str) -> int:
    return next(i for i, packages in enumerate(FLOORS) if package in packages)


def test_every_package_has_its_floor():
    found = {_package(path) for path in ROOT.glob("lib/**/*.py")} - {"__init__"}
    assert found == {package for packages in FLOORS for package in packages}


def test_modules_import_one_another_relatively():
    # So the same files run in a checkout, as `lib`, and under the name that they are installed with.
    for path in ROOT.glob("lib/**/*.py"):
        assert not re.search(r"^\s*(from|import) lib\b", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("path", sorted(ROOT.glob("lib/*/**/*.py")), ids=str)
def test_imports_go_downward_only(path):
    package = _package(path)
    for imported in _imports(path) - {package}:
        assert _floor(imported) < _floor(package), f"{package} imports {imported}, which is not below it"


@pytest.mark.parametrize("pattern", POWERS)
def test_each_power_has_one_home(pattern):
    users = {str(p.relative_to(ROOT)) for p in SOURCES if re.search(pattern, p.read_text())}
    assert users <= set(POWERS[pattern])


def test_examples_are_the_programs_of_a_user():
    # A training loop may call `backward` and set seeds, so examples have every power; but they use public
    # names only, and the project does not depend on them.
    public = {"loader", "core", "report"}
    examples = sorted(ROOT.glob("examples/*.py"))
    assert len(examples) > 2
    for path in examples:
        assert _imports(path) <= public, path
        assert not re.search(r"\._\w", path.read_text()), path
    for path in (*SOURCES, *ROOT.glob("scripts/*.py")):
        assert not re.search(r"(from|import) examples", path.read_text()), path


@pytest.mark.parametrize("path", sorted([*ROOT.glob("lib/**/*.py"), *ROOT.glob("examples/*.py")]), ids=str)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_step_never_waits_for_the_device():
    packages = ("augment", "optim", "distill", "select", "surgery", "corruptions")
    places = ("engine/step", "core/precision", "engine/teacher", *(f"{package}/*" for package in packages))
    for path in [path for place in places for path in ROOT.glob(f"lib/{place}.py")]:
        assert not re.search(r"\.item\(\)|\.cpu\(\)|\.tolist\(\)|\.numpy\(\)", path.read_text()), path


def test_no_trick_is_named_in_the_loop():
    from lib.core.registry import REGISTRIES

    kinds = ("augmentation", "wrapper", "average", "distillation", "surgery", "initialisation", "selection")
    named = [REGISTRIES[kind] for kind in kinds]
    names = [name for registry in named for name in registry.names()]
    for path in (ROOT / "lib/__main__.py", ROOT / "lib/run/fit.py", *ROOT.glob("lib/factory/*.py")):
        words = set(re.findall(r"\w+", path.read_text().lower()))
        assert not words & set(names), path
