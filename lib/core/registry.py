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
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from .contracts import validated
from .errors import BadInput, located, nearest
from .facts import AugmentationFacts, DatasetFacts, Facts, InitFacts, ModelFacts, SurgeryFacts, WrapperFacts
from .fields import REQUIRED, Field, about, coerce, fields_of, module_of
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

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """Its name and aliases, folded."""
        return tuple(map(folded, (self.name, *self.aliases)))

    def match(self, name: str) -> "Entry | None":
        """The entry of one `name` of this form, or None."""
        if not self.placeholders:
            return None
        form = re.sub(r"<(\w+)>", r"(?P<\1>.+)", re.sub(r"_(?!\w*>)", "[-_]", self.form))
        if not (found := re.fullmatch(form, name, re.DOTALL | re.IGNORECASE)):
            return None
        texts = found.groupdict()
        try:
            arguments = {key: coerce(text, self.parameters[key].type) for key, text in texts.items()}
        except ValueError:
            return None
        name = re.sub(r"<(\w+)>", lambda placeholder: texts[placeholder[1]], self.form)
        return replace(self, name=name, aliases=(), arguments=arguments)


def folded(name: str) -> str:
    """A name as it is compared with others: without its case, and with `_` for `-`."""
    return name.lower().replace("-", "_")


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
        # Of the modules that this process has imported:
        self._functions: dict[str, Callable] = {}
        self._entries: dict[str, Entry] = {}
        self._listings: dict[str, Callable[[], Iterable[str]]] = {}

    def register(
        self,
        name: str,
        build: Callable | None = None,
        *,
        aliases: tuple[str, ...] = (),
        listing: Callable[[], Iterable[str]] | None = None,
        **facts,
    ):
        """Add `build` under `name`: `register("x", f)`, or as a decorator above `f`.

        Args:
            listing: returns the names that may replace the placeholder `<name>` of a form, for suggestions.
        Returns:
            `build`, which from now on checks its arguments against their annotations.
        Raises:
            ValueError: the name is taken.
            TypeError: a fact is missing or is not one of this kind, or an option has no default.
        """
        if build is None:
            return lambda decorated: self.register(name, decorated, aliases=aliases, listing=listing, **facts)
        taken = {spelling for entry in self._entries.values() for spelling in entry.spellings}
        for spelling in (name, *aliases):
            if folded(spelling) in taken:
                raise ValueError(f"{self.kind} {spelling!r} is registered twice")
        parameters, stated = fields_of(build), self.facts(**facts)
        for key, parameter in parameters.items():
            if parameter.default is REQUIRED and key not in self.given and f"<{key}>" not in name:
                raise TypeError(f"option {key!r} of {self.kind} {name!r} needs a default")
        self._functions[name] = validated(build)
        if listing:
            self._listings[name] = listing
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
        """The entry called `name`, by its name, an alias or a form, in any case and with `-` for `_`.

        Raises:
            BadInput: there is none; the message suggests the nearest names.
        """
        if found := self._find(name):
            return found
        known = [spelling for e in self._known().values() for spelling in (e.name, *e.aliases)]
        hint = self._elsewhere(name) or nearest(name, known) or f"see {PROGRAM} --list {self.kind}"
        raise BadInput(f"unknown {self.kind} {name!r}: {hint}")

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def _find(self, name: str) -> Entry | None:
        known = self._known()
        if name in known:
            return known[name]
        spelling = folded(name)
        named = (entry for entry in known.values() if spelling in entry.spellings)
        return next(named, None) or next(filter(None, (e.match(name) for e in known.values())), None)

    def _elsewhere(self, name: str) -> str:
        """A suggestion of `timm/<name>` where timm has a model of this name, or an empty string."""
        listings = _index().listings.get(self.kind, {})  # back ends have no index
        found = [
            form.replace("<name>", known)
            for form, names in listings.items()
            for known in names
            if folded(known) == folded(name)
        ]
        return f"did you mean {' or '.join(found)}?" if found else ""

    def entries(self, pattern: str = "*") -> list[Entry]:
        """The entries with a name or alias that matches the shell pattern, sorted by name."""
        known = self._known().values()
        if pattern != "*":
            known = (e for e in known if fnmatch.filter(e.spellings, folded(pattern)))
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

    def forget(self, module: str) -> None:
        """Drop the entries of a module that could not be imported to its end."""
        self._entries = {form: entry for form, entry in self._entries.items() if entry.module != module}

    def _known(self) -> dict[str, Entry]:
        return _index().entries[self.kind] | self._entries


@cache
def _natural(name: str) -> list[int | str]:
    """A sort key that orders numbers in names by value."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def import_all(package: str) -> list[str]:
    """Import every module of a package; returns a line for each error of those that cannot be imported."""
    module, errors = importlib.import_module(f"{PACKAGE}.{package}"), []
    for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
        name = f"{module.__name__}.{info.name}"
        try:
            importlib.import_module(name)
        except Exception as error:
            errors.append(located(error, SOURCES / package))
            for registry in REGISTRIES.values():
                registry.forget(name)
    return errors


class Index(NamedTuple):
    """What the cache file holds."""

    stamp: list[tuple[str, int, int]]  # of all source files: path, time of the last change, size
    entries: dict[str, dict[str, Entry]]  # by kind and form
    listings: dict[str, dict[str, tuple[str, ...]]]  # by kind and form


@cache
def _index() -> Index:
    """All entries of all kinds, from the cache file if no source has changed since it was written.

    A module that cannot be imported is left out, with a warning, so that it stops nothing else.
    """
    sources = sorted(SOURCES.rglob("*.py"))
    stamp = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sources]
    # An unreadable or outdated file is rebuilt, like the .pyc files in the same folder.
    with contextlib.suppress(Exception):
        index = Index(*pickle.loads(INDEX.read_bytes()))
        if index.stamp == stamp:
            return index
    packages = dict.fromkeys(registry.package for registry in REGISTRIES.values())
    errors = dict.fromkeys(error for package in packages for error in import_all(package))
    entries, listings = {}, {}
    for kind, registry in REGISTRIES.items():
        entries[kind] = dict(registry._entries)
        listings[kind] = {form: tuple(listing()) for form, listing in registry._listings.items()}
    index = Index(stamp, entries, listings)
    for line in errors:
        print(f"warning: {line}; what needs this file is left out", file=sys.stderr)
    if not errors:  # a missing package may be installed without any change of the sources
        with contextlib.suppress(BadInput):  # a read-only installation is only slower
            write_atomic(INDEX, pickle.dumps(tuple(index)))
    return index


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
