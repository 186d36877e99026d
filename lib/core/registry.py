"""Registries: a name from the command line becomes an object, and nothing is listed a second time.

A name may contain placeholders, as `wrn_<depth>_<widen>`: it stands for every name of that form, and the
values of the placeholders are passed to the function as arguments of these names.

The registered entries are known only after importing every module, and that imports torch, which takes
seconds. The entries are therefore cached in a file in `__pycache__`, which is rebuilt whenever a source file
changes, so that --help, --list and error messages come at once.
"""

import contextlib
import fnmatch
import importlib
import pickle
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from .contracts import validated
from .errors import BadInput, nearest
from .facts import AugmentationFacts, DatasetFacts, Facts, InitFacts, ModelFacts, SurgeryFacts, WrapperFacts
from .fields import Field, about, coerce, fields_of, module_of
from .files import write_atomic

PACKAGE = __package__.rpartition(".")[0]  # the name under which this package is imported
PROGRAM = "python train.py" if PACKAGE == "lib" else "cifar-zoo"  # as a user starts it
SOURCES = Path(__file__).parents[1]
# Entries are pickled by the names of their modules, so each import name has its own file.
INDEX = SOURCES / "__pycache__" / f"{PACKAGE}.index"


@dataclass(frozen=True)
class Entry:
    """A registered thing, described without importing it."""

    kind: str
    form: str  # the name it is registered under, with placeholders
    name: str  # the name by which it was looked up
    about: str  # the first line of its documentation
    module: str  # where it is defined
    aliases: tuple[str, ...]
    facts: Facts  # stated at its registration: paper, parameter count...
    parameters: dict[str, Field]  # the arguments that the user may set
    given: tuple[str, ...]  # the arguments that the program supplies, of those it offers
    arguments: dict[str, Any] = field(default_factory=dict)  # values of the placeholders

    @cached_property
    def placeholders(self) -> list[str]:
        """`depth` and `widen` for the form `wrn_<depth>_<widen>`; none for a plain name."""
        return re.findall(r"<(\w+)>", self.name)

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The options: arguments that neither the program nor the name supplies."""
        supplied = (*self.placeholders, *self.arguments)
        return {name: f for name, f in self.parameters.items() if name not in supplied}

    def build(self, **arguments) -> Any:
        """The object. Arguments that the program offers go to the entries whose signatures name them."""
        registry = REGISTRIES[self.kind]
        unused = set(registry.given) - set(self.given)
        arguments = {name: value for name, value in arguments.items() if name not in unused}
        return registry.function(self.form)(**self.arguments, **arguments)

    def match(self, name: str) -> "Entry | None":
        """The entry of one `name` of this form, or None."""
        form = re.sub(r"<(\w+)>", r"(?P<\1>.+)", self.form)
        if not self.placeholders or not (found := re.fullmatch(form, name, re.DOTALL)):
            return None
        try:
            texts = found.groupdict().items()
            arguments = {key: coerce(text, self.parameters[key].type) for key, text in texts}
        except ValueError:
            return None
        return replace(self, name=name, aliases=(), arguments=arguments)


class Registry:
    """The entries of one kind, found by importing every module of a package.

    Args:
        kind: what an entry is, for messages.
        package: the package (or module) whose import fills the registry.
        given: arguments that the program offers to every entry, so they are no options of the user's.
        facts: the type of the facts that a registration states.
    """

    def __init__(self, kind: str, package: str, given: tuple[str, ...] = (), facts: type[Facts] = Facts):
        self.kind, self.package, self.given, self.facts = kind, package, given, facts
        self._functions: dict[str, Callable] = {}
        self._entries: dict[str, Entry] = {}  # of the modules that this process has imported

    def register(self, name: str, build: Callable | None = None, *, aliases: tuple[str, ...] = (), **facts):
        """Add `build` under `name`: `register("x", f)`, or as a decorator above `f`.

        Returns:
            `build`, which from now on checks its arguments against their annotations.
        Raises:
            ValueError: the name is taken.
            TypeError: a fact is missing or is not one of this kind.
        """
        if build is None:
            return lambda decorated: self.register(name, decorated, aliases=aliases, **facts)
        taken = {spelling for entry in self._entries.values() for spelling in (entry.name, *entry.aliases)}
        for spelling in (name, *aliases):
            if spelling in taken:
                raise ValueError(f"{self.kind} {spelling!r} is registered twice")
        parameters, stated = fields_of(build), self.facts(**facts)
        self._functions[name] = validated(build)
        self._entries[name] = Entry(
            kind=self.kind,
            form=name,
            name=name,
            about=about(build),
            module=module_of(build),
            aliases=tuple(aliases),
            facts=stated,
            parameters={key: f for key, f in parameters.items() if key not in self.given},
            given=tuple(key for key in parameters if key in self.given),
        )
        return self._functions[name]

    def __getitem__(self, name: str) -> Entry:
        """The entry called `name`, by its name, an alias or a form; BadInput suggests the nearest names."""
        if found := self._find(name):
            return found
        entries = self._known().values()
        hint = nearest(name, [spelling for e in entries for spelling in (e.name, *e.aliases)])
        raise BadInput(f"unknown {self.kind} {name!r}: {hint or f'see {PROGRAM} --list {self.kind}'}")

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def _find(self, name: str) -> Entry | None:
        known = self._known()
        aliased = (entry for entry in known.values() if name in entry.aliases)
        formed = (found for entry in known.values() if (found := entry.match(name)))
        return known.get(name) or next(aliased, None) or next(formed, None)

    def entries(self, pattern: str = "*") -> list[Entry]:
        """The entries with a name or alias that matches the shell pattern, sorted by name."""
        known = self._known().values()
        if pattern != "*":
            known = (e for e in known if any(fnmatch.fnmatch(s, pattern) for s in (e.name, *e.aliases)))
        return sorted(known, key=lambda e: _natural(e.name))

    def names(self) -> list[str]:
        """The names without placeholders: what tests iterate over."""
        return [entry.name for entry in self.entries() if not entry.placeholders]

    def function(self, form: str) -> Callable:
        """The function or class registered under `form`."""
        if form not in self._functions:
            importlib.import_module(self._known()[form].module)  # not the package's other files
        return self._functions[form]

    def entry_of(self, build: Callable) -> Entry | None:
        """The entry under which this process has registered `build`, or None."""
        forms = (form for form, function in self._functions.items() if function is build)
        return next((self._entries[form] for form in forms), None)

    def load(self) -> dict[str, Entry]:
        """Import every module of the package and return all entries."""
        module = importlib.import_module(f"{PACKAGE}.{self.package}")
        for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
            importlib.import_module(f"{module.__name__}.{info.name}")
        return self._entries

    def _known(self) -> dict[str, Entry]:
        return _index()[self.kind] | self._entries


@cache
def _natural(name: str) -> list[int | str]:
    """A sort key that orders numbers in names by value."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


@cache
def _index() -> dict[str, dict[str, Entry]]:
    """All entries of all kinds, from the cache file if no source has changed since it was written."""
    sources = sorted(SOURCES.rglob("*.py"))
    stamp = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sources]
    # An unreadable or outdated file is rebuilt, like the .pyc files in the same folder.
    with contextlib.suppress(Exception):
        held = pickle.loads(INDEX.read_bytes())
        if held["stamp"] == stamp:
            return held["entries"]
    entries = {kind: dict(registry.load()) for kind, registry in REGISTRIES.items()}
    with contextlib.suppress(BadInput):  # a read-only installation is only slower
        write_atomic(INDEX, pickle.dumps({"stamp": stamp, "entries": entries}))
    return entries


models = Registry("model", "models", given=("num_classes", "in_channels", "image_size"), facts=ModelFacts)
datasets = Registry("dataset", "data", given=("root", "offline"), facts=DatasetFacts)
surgeries = Registry("surgery", "surgery", given=("model", "shape"), facts=SurgeryFacts)
initialisations = Registry("initialisation", "init", given=("model", "shape", "images"), facts=InitFacts)
augmentations = Registry("augmentation", "augment", facts=AugmentationFacts)
selections = Registry("selection", "select")
losses = Registry("loss", "losses")
optimizers = Registry("optimizer", "optim", given=("params",))
wrappers = Registry("wrapper", "optim", given=("base", "model", "total"), facts=WrapperFacts)
schedules = Registry("schedule", "optim")
averages = Registry("average", "optim", given=("model", "steps_per_epoch", "total"))
distillations = Registry("distillation", "distill", given=("base", "epochs"))
tta = Registry("view", "augment", given=("model",))
corruptions = Registry("corruption", "corruptions", given=("x", "severity", "rng"))

REGISTRIES = {found.kind: found for found in list(globals().values()) if isinstance(found, Registry)}
