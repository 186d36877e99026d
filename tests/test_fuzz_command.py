"""Any list of words after train.py or a script ends with a code of the program, and a refusal is one line."""

import contextlib
import importlib
import io
import pkgutil
import re
import shutil
import socket
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import strategies as st

import lib.run.fit
import scripts
import train
from lib.config.cli import ACTIONS
from lib.config.schema import SECTIONS
from lib.config.spelling import full_spellings, spellings
from lib.core.registry import REGISTRIES
from tests.helpers.contracts import values_within
from tests.helpers.fuzz import ending
from tests.helpers.runs import TINY

PATHS = (
    ".", "tiny.yaml", "run", "run/last.pt", "run/config.yaml", "broken.yaml", "dangling", "folder", "images",
    "folder:images", "image.png", "tiny.yaml/x", "no/such", "~", "~nobody/x", "/dev/null", "/dev/full",
    "a" * 400, "a/" * 3000, "nul\0", "\udcff.png",
)  # fmt: skip
NUMBERS = (
    "0", "1", "2", "3", "7", "-1", "0.5", "0.1", "1e-3", "-0.0", "1e400", "nan", "inf", "1e30", "9" * 25,
    "1_0", "0x10", "010",
)  # fmt: skip
WORDS = (
    "", "-", "--", "=", "--=", ".", "none", "true", "false", "[]", "{}", "1,2", "0..2", "0..", "..", "a=b=c",
    "--no-", "*", "<1M", ">", "10%", "-o",
)  # fmt: skip
KEYS = sorted({*spellings(), *full_spellings()})
WITH_TEXT = (
    *SECTIONS,
    "config",
    "list",
    "seeds",
    "jobs",
    "evaluate",
    "root",
    "output_dir",
    "init_from",
    "teacher",
)
NAMES = sorted({name for registry in REGISTRIES.values() for name in registry.names() if "<" not in name})
MODULES = [
    importlib.import_module(f"scripts.{name}")
    for _, name, is_folder in pkgutil.iter_modules(scripts.__path__)
    if not is_folder
]
COMMANDS = [module for module in MODULES if hasattr(module, "main")]


def one_of(*words: tuple[str, ...] | list[str]) -> st.SearchStrategy[str]:
    return st.one_of(*map(st.sampled_from, words))


def value() -> st.SearchStrategy[str]:
    several = st.lists(one_of(NAMES, NUMBERS, PATHS), max_size=3).map(",".join)
    text = st.text(max_size=12).filter(lambda text: not text.startswith("/"))  # nothing outside of the folder
    return st.one_of(one_of(NUMBERS, NAMES, PATHS, WORDS), several, text)


def misspelt() -> st.SearchStrategy[tuple[str, ...]]:
    """Words in the form of a setting or an action, most of them wrong."""
    key = one_of(KEYS, WITH_TEXT)
    flag = st.tuples(st.sampled_from(["--", "--no-", ""]), key | key.map(lambda name: name.replace("_", "-")))
    pair = st.tuples(flag.map("".join), value())
    action = st.sampled_from(sorted(ACTIONS))
    return pair | st.tuples(flag.map("".join) | pair.map("=".join) | action | value())


def settings() -> st.SearchStrategy[tuple[str]]:
    """A setting with a value of its type and within its bounds, which may not go together with others."""
    kinds = {}
    for name, section in SECTIONS.items():
        kinds |= {f"{name}.{key}": field.type for key, field in section.fields.items()}
        if section.is_choice:
            kinds[f"{name}.name"] = Literal[*section.registry.names()]
        for entry in section.registry.entries() if section.is_tricks else ():
            kinds[f"{name}.{entry.name}"] = bool
            kinds |= {f"{name}.{entry.name}.{key}": field.type for key, field in entry.fields.items()}
    pairs = {key: st.tuples(st.just(key), values_within(kind).map(str)) for key, kind in kinds.items()}
    return st.sampled_from(sorted(pairs)).flatmap(pairs.get).map(lambda pair: ("=".join(pair),))


def words() -> st.SearchStrategy[list[str]]:
    parts = st.lists(misspelt(), max_size=6) | st.lists(settings(), max_size=4)
    parts |= st.lists(settings() | misspelt(), max_size=4)
    return parts.map(lambda parts: [word for part in parts for word in part])


@pytest.fixture(scope="module")
def run(tmp_path_factory, undrawn) -> Path:
    """The folder of a run, next to its configuration."""
    with contextlib.chdir(tmp_path_factory.mktemp("run")):
        Path("tiny.yaml").write_text(TINY)
        assert train.main(["--config", "tiny.yaml", "--output-dir", "run"]) == 0
        return Path("run").absolute()


@pytest.fixture
def place(run, tmp_path, monkeypatch):
    """A folder with one of everything that a path may name; a training stops at its first step."""
    shutil.copytree(run.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("broken.yaml").write_bytes(b"a: [\xff")
    Path("image.png").write_bytes(b"\x89PNG")
    Path("dangling").symlink_to("nowhere")
    Path("folder").mkdir()
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            Path("images", split, label).mkdir(parents=True)

    def offline(*_):
        raise ConnectionRefusedError("there is no network in this test")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "connect", offline)
    monkeypatch.setattr(lib.run.fit, "train_step", stop)
    monkeypatch.setattr("lib.grid.seeds.ask_capacity", stop)
    monkeypatch.setattr("lib.grid.local.ProcessPool.run", stop)
    monkeypatch.setattr("scripts.grid.estimate", lambda *known: "")


@pytest.mark.parametrize("action", ["--dry-run", "--summary", "--output-dir=new", "--evaluate=run"])
def test_any_words_on_the_command_line_end_in_one_line(tried, place, action):
    base = [] if action.startswith("--evaluate") else ["--config=tiny.yaml", "--offline=true"]

    def check(rest: list[str]) -> str:
        shutil.rmtree("new", ignore_errors=True)
        return ending(train.main, [*base, action, *rest])

    tried(words(), check, short=50, long=800)


@pytest.mark.parametrize(
    "main", [command.main for command in COMMANDS], ids=[command.__name__ for command in COMMANDS]
)
def test_any_words_after_a_script_end_in_one_line(tried, place, main):
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        main(["--help"])
    known = sorted(set(re.findall(r"--?[a-z][\w-]*|\b[a-z_]+\b", shown.getvalue())))
    word = st.sampled_from(known) | st.sampled_from(PATHS) | value()
    tried(st.lists(word, max_size=6), lambda words: ending(main, words), short=15, long=150)
