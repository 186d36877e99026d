"""Every command of the documentation is run: a training as its dry run, a program for its help and flags."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import train
from lib.config.cli import ACTIONS, parse
from lib.factory import build, build_stand_in
from lib.store import checkpoint

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Neither quick nor local: installations, clusters, several devices, and tests of the project itself.
SKIPPED = (
    "pip ", "make ", "source ", "pytest ", "ray ", "RAY_", "chmod ", "grep ", "scancel ", "torchrun ",
    "hf ",
)  # fmt: skip
FAST = ROOT / "docs/first-run.md"  # the commands of the other pages are slow tests


def blocks(page: Path) -> list[str]:
    """The lines of the fenced blocks of a page that are commands."""
    found = FENCE.findall(page.read_text().replace("\\\n", " "))
    return [line for language, block in found if language in ("", "bash") for line in block.splitlines()]


def commands(page: Path) -> list[str]:
    """The commands of the project on a page, in blocks and inline, without comments and abridged ones."""
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))
    found = [re.sub(r"\s+#\s.*", "", line).strip() for line in (*blocks(page), *inline)]
    ours = [line for line in found if re.match(r"(python (train\.py|-m scripts)|scripts/run\.sh)\b", line)]
    return [line for line in dict.fromkeys(ours) if "..." not in line and "<" not in line]


COMMANDS = [
    pytest.param(line, id=f"{page.name}: {line}", marks=[] if page == FAST else pytest.mark.slow)
    for page in PAGES
    for line in commands(page)
]


def test_commands_are_found_on_the_pages_and_every_skipped_one_is_known():
    assert {page.name for page in PAGES if commands(page)} >= {"README.md", "first-run.md", "ablation.md"}
    assert len(COMMANDS) > 40
    for page in PAGES:
        bash = [block for language, block in FENCE.findall(page.read_text()) if language == "bash"]
        for line in "\n".join(bash).replace("\\\n", " ").splitlines():
            known = ("#", "python ", "scripts/run.sh", *SKIPPED)
            assert not line.strip() or line.startswith(known), f"{page.name}: {line}"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the pages take for granted: recipes, runs of two of them, images."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "configs").symlink_to(ROOT / "configs")
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / "images" / part / name).mkdir(parents=True)
            for number in range(80 if part == "train" else 8):
                image = Image.new("RGB", (32, 32), (number, 90, 200))
                image.save(folder / f"images/{part}/{name}/{number}.png")
    for name, line in {
        "path/to/a/run": "--model resnet20",
        "RUN": "--config configs/quickstart.yaml",
    }.items():
        config = parse(f"{line} --device cpu".split()).config()
        run = build(config, torch.device("cpu"), print, get_dataset=build_stand_in)
        checkpoint.save(folder / name / "last.pt", run, 0, config.tree(), best=None, code="")
    return folder


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_documentation_works(line, place, capsys, monkeypatch):
    if "--model tiny" in line:
        pytest.skip("the model is the example of the page, which test_one_file adds")
    if "pretrained" in line or "hf:" in line:
        pytest.skip("it downloads weights or images")
    for package in re.findall("wandb|mlflow", line):
        pytest.importorskip(package)
    if line.startswith("scripts/run.sh"):
        line = "python -m scripts.grid --list"
    line = line.replace("folder:/path/to/images", "folder:images").replace("folder:/path ", "folder:images ")
    program, *words = shlex.split(line)[1:]
    if program == "train.py":
        monkeypatch.chdir(place)
        assert train.main(planned(words)) == 0
        return
    module, *words = words
    kind = words[:1] if module == "scripts.plot" else []
    monkeypatch.setattr(sys, "argv", [module, *kind, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(module, run_name="__main__")
    text = capsys.readouterr().out
    for flag in (word.partition("=")[0] for word in words if word.startswith("-")):
        assert flag in text or module in ("scripts.preview", "scripts.lr_find", "scripts.grid"), flag


def planned(words: list[str]) -> list[str]:
    """The words of a dry run, of one seed; a listing, a summary and help are quick by themselves."""
    actions = {ACTIONS[word] for word in words if word in ACTIONS}
    if "evaluate" in actions:
        return ["--help"]  # its options are tested where runs are evaluated
    for flag in ("--seeds", "--jobs"):
        if flag in words:
            place = words.index(flag)
            words = [*words[:place], *words[place + 2 :]]
    return words if actions - {"seeds"} else [*words, "--dry-run"]
