"""The command line: flags, `key=value` and `key value` become settings, however a user spells them.

argparse is not used: it cannot tell `--cutout`, `--cutout True`, `--cutout 16` and `--cutout train.lr 0.1`
apart, and its help has no place for the registries.
"""

import os
import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, where
from ..core.files import user_path
from . import habits
from .compose import compose
from .schema import EVALUATION, SECTIONS, Config
from .sources import layer_of, layers_of, read_yaml
from .spelling import is_switch

# The flags that ask for something other than one training run.
ACTIONS = {
    "-h": "help",
    "--help": "help",
    "--list": "list",
    "--evaluate": "evaluate",
    "--seeds": "seeds",
    "--summary": "summary",
    "--dry-run": "dry-run",
    "--dry_run": "dry-run",
}


@dataclass
class Command:
    """A parsed command line."""

    action: str = "train"  # or one of ACTIONS
    folder: Path | None = None  # run folder of --evaluate
    seeds: str | None = None  # of --seeds: one run each
    on: list[str] = field(default_factory=list)  # of --on: further data sets to evaluate a run on
    jobs: str | None = None  # of --jobs: number of runs at a time
    files: list[Path] = field(default_factory=list)  # YAML files, in order
    pairs: list[tuple[str, Any, str]] = field(default_factory=list)  # key, value, and the key as spelled
    words: list[str] = field(default_factory=list)  # after --list a kind and filters, after --help topics

    def config(self) -> Config:
        """The configuration of the files and the pairs, or, with --evaluate, of the run and the pairs."""
        if self.folder is not None:
            return self._recorded(self.folder)
        return self._composed(self.files)

    def _recorded(self, folder: Path) -> Config:
        """The configuration of a trained run, with the evaluation options of the command line."""
        if self.files:
            raise BadInput(f"--config cannot be combined with --evaluate: {folder} has its own config.yaml")
        if not (file := folder / "config.yaml").is_file():
            why = "it has no config.yaml" if folder.is_dir() else "there is no such folder"
            raise BadInput(f"{folder} is not a run folder: {why}")
        for path, setting in layer_of(self.pairs, "command line"):
            if not any(path[: len(part)] == part for part in EVALUATION):
                known = ", ".join(".".join(part) for part in EVALUATION)
                raise BadInput(f"{setting} cannot be changed when evaluating a run; only {known} can")
        try:
            if not read_yaml(file):
                raise BadInput(f"{file} is empty")
            Command(files=[file]).config()
        except BadInput as error:
            reason = str(error).removeprefix("--config ")
            raise BadInput(f"{folder} cannot be read by this version: {reason}") from error
        return self._composed([file])

    def _composed(self, files: list[Path]) -> Config:
        sources = [([(key, value, key) for key, value in read_yaml(file)], str(file)) for file in files]
        sources.append((self.pairs, "command line"))
        notes: list[str] = []
        return compose(layers_of(sources, notes), notes)


def parse(argv: list[str]) -> Command:
    """Read a command line.

    Raises:
        BadInput: a word cannot be understood; the message says which.
    """
    command, words = Command(), deque(argv)
    while words:
        word = words.popleft()
        flag = word.partition("=")[0]
        if action := ACTIONS.get(flag):
            if command.action != "train":  # the later one would silently replace the earlier one
                same = command.action == action
                both = f"--{command.action} and --{action} cannot be combined"
                raise BadInput(f"--{action} was given twice" if same else both)
            command.action = action
        if flag == "--evaluate":
            given = _path(flag, _value(word, words))
            command.folder = given.parent if given.name == "last.pt" else given
        elif flag == "--seeds":
            command.seeds = _value(word, words)
        elif flag == "--jobs":
            if command.jobs is not None:
                raise BadInput("--jobs was given twice")
            command.jobs = _value(word, words)
        elif flag == "--on":
            command.on += [name.strip() for name in _value(word, words).split(",") if name.strip()]
        elif flag in ("--config", "-c"):
            command.files += [_path(flag, part) for part in _value(word, words).split(",")]
        elif action in ("list", "help"):
            while words and not words[0].startswith("-"):
                command.words.append(words.popleft())
        elif action:
            if flag != word:
                raise BadInput(f"{flag} takes no value, got {word}")
        else:
            command.pairs.append(_pair(word, words))
    if command.on and command.action != "evaluate":
        raise BadInput("--on names data sets to evaluate a trained run on: give --evaluate RUN too")
    if command.jobs is not None and command.seeds is None:
        raise BadInput("--jobs is the number of --seeds trained at a time; without --seeds there is one run")
    return command


def _pair(word: str, words: deque[str]) -> tuple[str, Any, str]:
    """The setting that starts with `word`; takes its value from the words that follow."""
    spelled, equals, value = word.partition("=")
    key = re.sub("^--?", "", spelled)
    if equals:
        return key, value, spelled
    if not _is_flag(word):
        if "." not in key or not words:
            kind = "neither a flag nor a key: write --key value, key=value or section.key value"
            if os.path.isdir(word):  # False for what cannot be a path
                kind = "a folder: write --root for that of the data, or --dataset folder:PATH for images"
            raise BadInput(f"{word!r} is {kind}")
        return key, _value(key, words), key
    if key.startswith(("no-", "no_")) and not habits.is_known(key):
        if not is_switch(key[3:]):
            raise BadInput(f"{word}: {key[3:]} is not a boolean option; it needs a value")
        return key[3:], False, word
    if is_switch(key) and not (words and _is_value(words[0])):
        return key, True, word
    return key, _value(word, words), word


def _is_flag(word: str) -> bool:
    """Whether a word is a flag: with two dashes, or with one, as some projects write theirs."""
    return word.startswith("--") or (word[:1] == "-" and word[1:2].isalpha())


def _is_value(word: str) -> bool:
    """Whether the word after a switch is its value, rather than the next setting."""
    section, dot, _ = habits.normal(word).partition(".")
    is_key = dot and section in SECTIONS
    return not (_is_flag(word) or "=" in word or is_key)


def _path(flag: str, text: str) -> Path:
    with where(flag):
        return user_path(text)


def _value(word: str, words: deque[str]) -> str:
    """The value of a flag: after `=`, or the next word, with the numbers that follow it."""
    flag, equals, value = word.partition("=")
    if equals:
        return value
    if not words or _is_flag(words[0]):
        raise BadInput(f"{flag} needs a value")
    values = [words.popleft()]
    while _is_number(values[0]) and words and _is_number(words[0]):
        values.append(words.popleft())
    return ",".join(values)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
