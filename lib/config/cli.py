"""The command line: flags, `key=value` and `key value` become settings, whichever way a user spells them.

argparse is not used: `--cutout`, `--cutout True`, `--cutout 16` and `--cutout train.lr 0.1` cannot all be
told apart by it, and its help has no place for what is registered.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import BadInput, nearest
from .compose import Layer, Setting, compose
from .legacy import RETIRED, SECTION_NAMES
from .schema import SECTIONS, Config
from .spelling import is_switch, resolve

ACTIONS = {
    "-h": "help",
    "--help": "help",
    "--summary": "summary",
    "--dry-run": "dry-run",
    "--dry_run": "dry-run",
}

# What may be said anew of a run that is evaluated; all else is settled by its own config.yaml.
ABOUT_LOOKING = (
    ("views",), ("evaluate",), ("run", "device"),
    *(("data", name) for name in ("root", "offline", "workers", "stream")),
)  # fmt: skip


@dataclass
class Command:
    """What the user asks for."""

    action: str = "train"  # train, seeds, evaluate, help, list, summary or dry-run
    folder: Path | None = None  # the run folder behind --evaluate
    seeds: str | None = None  # a run of each is to be trained
    jobs: str | None = None  # so many of them at once
    files: list[Path] = field(default_factory=list)  # YAML files, in order
    pairs: list[tuple[str, Any, str]] = field(default_factory=list)  # key, value, and the key as spelled
    listing: list[str] = field(default_factory=list)  # the words behind --list: a kind, then filters

    def config(self) -> Config:
        """The configuration that the files and the pairs give; with --evaluate the run's own is the file."""
        if self.folder is not None:
            return self._recorded(self.folder)
        return self._composed(self.files)

    def _recorded(self, folder: Path) -> Config:
        """The configuration of a run, with what the pairs say of how its networks are looked at."""
        if self.files:
            raise BadInput(f"--config says what to train; {folder} holds a configuration, so leave it out")
        if not (file := folder / "config.yaml").is_file():
            why = "it holds no config.yaml" if folder.is_dir() else "there is no such folder"
            raise BadInput(f"{folder} is no run folder: {why}")
        for path, setting in layer_of(self.pairs, "command line"):
            if not any(path[: len(part)] == part for part in ABOUT_LOOKING):
                known = ", ".join(".".join(part) for part in ABOUT_LOOKING)
                raise BadInput(f"{setting} is settled by the run in {folder}; beside it only {known} count")
        try:
            if not read_yaml(file):
                raise BadInput(f"{file} is empty")
            Command(files=[file]).config()
        except BadInput as error:
            said = str(error).removeprefix("--config ")
            raise BadInput(f"{folder} holds no run that this version can read: {said}") from error
        return self._composed([file])

    def _composed(self, files: list[Path]) -> Config:
        sources = [([(key, value, key) for key, value in read_yaml(file)], str(file)) for file in files]
        sources.append((self.pairs, "command line"))
        notes = [
            f"{spelled} ({source}) has no effect: {RETIRED[key]}"
            for pairs, source in sources
            for key, _, spelled in pairs
            if key in RETIRED
        ]
        return compose([layer_of(pairs, source) for pairs, source in sources], notes)


def parse(argv: list[str]) -> Command:
    """Read a command line.

    Raises:
        BadInput: a word cannot be understood; the message says which.
    """
    command, words = Command(), deque(argv)
    while words:
        word = words.popleft()
        if word.partition("=")[0] == "--evaluate":
            command.folder = Path(_value(word, words))
        elif (flag := word.partition("=")[0]) in ("--seeds", "--jobs"):
            if getattr(command, flag[2:]) is not None:
                raise BadInput(f"{flag} stands there twice; leave one out")
            setattr(command, flag[2:], _value(word, words))
        elif word in ACTIONS:
            command.action = ACTIONS[word]
        elif word == "--list":
            command.action = "list"
            while words and not words[0].startswith("-"):
                command.listing.append(words.popleft())
        elif word.partition("=")[0] == "--config":
            value = _value(word, words)
            command.files += [Path(part) for part in value.split(",")]
        else:
            command.pairs.append(_pair(word, words))
    for action, asked in {"evaluate": command.folder, "seeds": command.seeds}.items():
        if asked is None:
            continue
        if command.action != "train":
            raise BadInput(f"--{action} and --{command.action} ask for two things; leave one out")
        command.action = action
    if command.jobs is not None and command.seeds is None:
        raise BadInput(
            "--jobs says how many of --seeds are trained at once; without --seeds there is one run"
        )
    return command


def _pair(word: str, words: deque[str]) -> tuple[str, Any, str]:
    """The setting that begins with `word`; takes its value off the rest of the words."""
    key, equals, value = word.removeprefix("--").partition("=")
    if not word.startswith("--") and not equals:
        if "." not in key or not words:
            raise BadInput(
                f"{word!r} is no flag and no key: write --key value, key=value or section.key value"
            )
        return key, words.popleft(), key
    if equals:
        return key, value, word.partition("=")[0]
    if key.startswith(("no-", "no_")):
        if not is_switch(key[3:]):
            raise BadInput(f"{word}: {key[3:]} is no switch; give it a value")
        return key[3:], False, word
    if is_switch(key) and not (words and _is_value(words[0])):
        return key, True, word
    return key, _value(word, words), word


def _is_value(word: str) -> bool:
    """Whether the word after a switch is its value, rather than the next setting."""
    section, dot, _ = word.partition(".")
    is_key = dot and section in (*SECTIONS, *SECTION_NAMES)
    return not (word.startswith("--") or "=" in word or is_key)


def _value(word: str, words: deque[str]) -> str:
    flag, equals, value = word.partition("=")
    if equals:
        return value
    if not words or words[0].startswith("--"):
        raise BadInput(f"{flag} needs a value")
    return words.popleft()


def config_of(tree: dict[str, Any], source: str) -> Config:
    """The configuration that was saved as this tree; `source` is where, for messages."""
    return compose([layer_of([(key, value, key) for key, value in flatten(tree)], source)])


def layer_of(pairs: list[tuple[str, Any, str]], source: str) -> Layer:
    """The settings of one place: keys, values, and the keys as spelled."""
    layer: Layer = []
    for key, value, spelled in pairs:
        try:
            paths = resolve(key, value)
        except ValueError as error:
            raise BadInput(f"{spelled} ({source}): {error}") from error
        layer += [(path, Setting(setting, spelled, source)) for path, setting in paths]
    return layer


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; PyYAML would keep the last one and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> list[tuple[str, Any]]:
    """The keys, dotted, and values of a YAML file."""
    return list(flatten(read_tree(path, "--config ")))


def read_tree(path: Path, flag: str = "") -> dict[str, Any]:
    """What a YAML file holds; `flag` is what the user wrote before its name."""
    try:
        tree = yaml.load(path.read_text(), _StrictLoader) or {}
    except FileNotFoundError:
        known = [str(p) for p in Path("configs").rglob("*.yaml")]
        close = nearest(str(path), known) or "no file of that name"
        raise BadInput(f"{flag}{path}: there is no such file; {close}") from None
    except OSError as error:
        raise BadInput(f"{flag}{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no text, the date 2001-99-99
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise BadInput(
            f"{flag}{path}{where}: {getattr(error, 'problem', None) or 'not a YAML file'}"
        ) from error
    if not isinstance(tree, dict):
        raise BadInput(f"{flag}{path}: expected settings as key: value, got {type(tree).__name__}")
    return tree


def flatten(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys, dotted, and values of a tree of settings."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        elif value != {} or key not in SECTIONS:  # a section with nothing in it sets nothing
            yield f"{prefix}{key}", True if value == {} else value
