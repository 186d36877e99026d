"""A broken or unusual file of a user: one line names it, and everything else goes on working."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FILES = {
    "models/unparsable.py": "x = 1\ndef network(:\n",
    "augment/unimportable.py": "import a_package_that_nobody_has\n",
    "optim/half.py": """
from ..core.registry import schedules
schedules.register("half", lambda: None)
raise RuntimeError("half way")
""",
    "models/needy.py": """
from torch import nn
from ..core.registry import models

@models.register("needy")
def needy(num_classes: int, width: int):
    return nn.Linear(width, num_classes)
""",
    "models/mine.py": """
from torch import nn
from ..core.registry import models

def network(channels=3, classes=10):
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), pool, nn.Flatten(), nn.Linear(4, classes))

@models.register("plain")
def plain(num_classes: int = 10):
    return network(classes=num_classes)

@models.register("fixed")
def fixed():
    return network()

@models.register("number")
def number(num_classes: int = 10):
    return 3

@models.register("failing")
def failing(num_classes: int = 10):
    return {}["width"]

@models.register("typed")
class Typed(nn.Linear):
    def __init__(self, num_classes: int = 10):
        super().__init__(3, num_classes)

    def forward(self, x):
        return super().forward(x.mean((2, 3)), 1)
""",
}

RUN = """
import contextlib, io, json, sys
import train
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = train.main(line.split())
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""

COMMANDS = {
    "listing": "--list models resnet20",
    "built in": "--dry-run --model resnet20 --cutmix --dataset synthetic",
    "plain": "--dry-run --model plain --dataset cifar100",
    "one channel": "--dry-run --model plain --dataset mnist",
    "classes": "--dry-run --model fixed --dataset cifar100",
    "number": "--dry-run --model number --dataset synthetic",
    "failing": "--dry-run --model failing --dataset synthetic",
    "typed": "--dry-run --model typed --dataset synthetic",
    "summary": "--summary --model typed --dataset synthetic",
    "half": "--dry-run --schedule half --dataset synthetic",
}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and errors of each command, in a copy of the package with these files."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "lib", home / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", home)
    for file, text in FILES.items():
        (home / "lib" / file).write_text(text)
    ran = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(list(COMMANDS.values()))],
        cwd=home, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(COMMANDS, map(json.loads, ran.stdout.splitlines()), strict=True))


def test_a_file_that_cannot_be_imported_is_named_once_and_stops_nothing_else(done):
    code, out, err = done["listing"]
    assert (code, "269,722" in out) == (0, True)
    lines = sorted(err.splitlines())
    assert [line.partition("lib/")[2].partition(":")[0] for line in lines] == [
        "augment/unimportable.py, line 1",
        "models/needy.py, line 5",
        "models/unparsable.py, line 2",
        "optim/half.py, line 4",
    ]
    for reason in ("SyntaxError", "a_package_that_nobody_has", "half way", "option 'width'"):
        assert err.count(reason) == 1
    assert done["built in"][0] == done["plain"][0] == 0
    assert not done["built in"][2]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("one channel", "cannot take images of (1, 28, 28)"),
        ("classes", "logits of (2, 100), got (2, 10); see num_classes"),
        ("number", "must return a torch.nn.Module, got int"),
        ("failing", "lib/models/mine.py, line 23: KeyError: 'width'"),
        ("typed", "lib/models/mine.py, line 31: TypeError"),
        ("summary", "lib/models/mine.py, line 31: TypeError"),
        ("half", "unknown schedule 'half'"),  # what it had registered before it failed is left out too
    ],
)
def test_a_model_that_cannot_be_used_ends_in_one_line_that_says_why(done, command, words):
    code, _, err = done[command]
    assert (code, len(err.splitlines())) == (2, 1)
    assert words in err
