"""From settings to a configuration: defaults < YAML files, in order < command line.

No setting is dropped silently: it takes effect, is overridden by a later layer, is discarded with a note, or
is refused with the reason.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from ..core.errors import BadInput, nearest, where
from ..core.fields import Field, coerce
from ..core.registry import Entry, Registry
from .schema import SECTIONS, Choice, Config, Section, plain

# (section, field), (section, trick), or with the entry between: (section, entry, field)
Path = tuple[str, ...]


class Setting(NamedTuple):
    value: Any
    spelled: str  # the key as the user wrote it
    source: str  # a file's name, or "command line"
    entry: str | None = None  # the entry that must be chosen for it, where the user named one

    def __str__(self) -> str:
        return f"{self.spelled} ({self.source})"


Layer = list[tuple[Path, Setting]]  # the settings of one source, in order


def compose(layers: Iterable[Layer], notes: Iterable[str] = ()) -> Config:
    """The configuration that the layers give; a later layer overrides an earlier one.

    Args:
        notes: lines to show to the user about how the layers were read; compose adds its own.
    Raises:
        BadInput: a setting is unknown, has a wrong value, or contradicts another one.
    """
    notes = list(notes)
    settings = merge(layers, notes)
    compat = settings.get(("train", "compat"))
    era = str(compat.value) if compat else None  # an unknown one is refused with the other settings
    chosen, tricks, off, constants, changed = {}, {}, {}, {}, {}
    for name, section in SECTIONS.items():
        mine = {path[1:]: setting for path, setting in settings.items() if path[0] == name}
        if section.is_tricks:
            usual = chosen["data"].entry.facts.usual(name)
            tricks[name], off[name], changed[name] = _switch(section, mine, usual, era)
        else:
            if name == "data" and chosen["model"].options.get("pretrained"):
                mine = _for_weights(chosen["model"], section, mine, notes) | mine
            chosen[name], constants[name], changed[name] = _fill(name, section, mine, era)
    return Config(
        chosen={name: choice for name, choice in chosen.items() if choice},
        tricks=tricks,
        settings={name: constant for name, constant in constants.items() if constant},
        changed=plain({name: part for name, part in changed.items() if part}),
        off=off,
        notes=notes,
    )


def merge(layers: Iterable[Layer], notes: list[str]) -> dict[Path, Setting]:
    """The effective settings; notes which settings of earlier layers are discarded."""
    settings: dict[Path, Setting] = {}
    for layer in layers:
        settings = _add(settings, _unique(layer), notes)
    return settings


def _as_of(entry: Entry, era: str | None) -> Entry:
    """An entry with the facts and defaults of the older project that `compat` names."""
    return replace(entry, facts=entry.facts.as_of(era))


def _unique(layer: Layer) -> dict[Path, Setting]:
    """A layer's settings by path; `cutout 16` is a setting of cutout's first field."""
    unique: dict[Path, Setting] = {}
    for path, setting in layer:
        section = SECTIONS[path[0]]
        if section.is_tricks and len(path) == 2 and as_switch(setting.value) is None:
            fields = section.registry[path[1]].fields
            if not fields:
                raise BadInput(f"{setting}: expected true or false, got {setting.value!r}")
            path = (*path, next(iter(fields)))
        if section.is_choice and len(path) == 3:  # model.resnet_preact.depth
            path, setting = (path[0], path[2]), setting._replace(entry=path[1])
        if path in unique and str(unique[path].value) != str(setting.value):
            raise BadInput(f"{unique[path]} and {setting} conflict")
        unique[path] = setting
    for path, setting in unique.items():
        if len(path) == 3 and (switch := unique.get(path[:2])) and as_switch(switch.value) is False:
            raise BadInput(
                f"{switch} disables {path[1]}, but {setting} sets an option of it; remove one of them"
            )
    return unique


def as_switch(value: Any) -> bool | None:
    """A value as a switch, or None. Numbers are not switches: `--mixup 1` sets alpha."""
    try:
        return None if str(value) in ("0", "1") else coerce(value, bool)
    except ValueError:
        return None


def _add(settings: dict[Path, Setting], new: dict[Path, Setting], notes: list[str]) -> dict[Path, Setting]:
    """The earlier settings without those that the new ones discard, and the new ones."""
    kept = dict(settings)
    for path, setting in new.items():
        section = SECTIONS[path[0]]
        if section.is_choice and path[1] == "name":
            # Options belong to one choice: a learning rate tuned for SGD does not suit AdamW.
            before = settings[path].value if path in settings else section.default
            void = [p for p in kept if p[0] == path[0] and p[1] != "name" and p[1] not in section.fields]
            if void and not _same_entry(section.registry, before, setting.value):
                ignored = ", ".join(f"{kept.pop(p)}" for p in void)
                kind = section.registry.kind
                notes.append(
                    f"{setting} selects a different {kind}, so these earlier options are ignored: {ignored}"
                )
        elif section.is_tricks and len(path) == 2 and as_switch(setting.value) is False:
            kept = {p: s for p, s in kept.items() if p[:2] != path}
        elif section.is_tricks and len(path) == 3 and path[:2] in kept:
            del kept[path[:2]]  # an option of a trick enables it
    return kept | new


def _same_entry(registry: Registry, *names: Any) -> bool:
    """Whether both names are spellings of one entry; an unknown one is refused later."""
    first, second = (registry[name].name if name in registry else name for name in map(str, names))
    return first == second


def _fill(
    name: str, section: Section, mine: dict[Path, Setting], era: str | None
) -> tuple[Choice | None, Any, dict[str, Any]]:
    """A section's choice, its settings, and those that differ from the defaults."""
    choice = _choose(section, mine, era) if section.is_choice else None
    defaults = choice.entry.facts.defaults if choice else {}
    own = {key: replace(f, default=defaults.get(key, f.default)) for key, f in section.fields.items()}
    values = {key: f.default for key, f in own.items()}
    options = choice.options if choice else {}
    changed = {"name": choice.entry.name} if choice and choice.entry.name != section.default else {}
    for path, setting in mine.items():
        (key,) = path
        if choice and key == "name":
            continue
        if setting.entry and setting.entry != choice.entry.name:
            raise BadInput(f"{setting} sets {setting.entry}, but the {choice.kind} is {choice.entry.name}")
        known = own.get(key) or (choice and choice.entry.fields.get(key))
        if not known:
            raise BadInput(f"{setting}: {_unknown(name, section, choice, key)}")
        value = _typed(setting, known)
        (values if key in own else options)[key] = value
        if value != known.default:
            changed[key] = value
    try:
        return choice, section.settings(**values) if section.settings else None, changed
    except ValueError as error:
        # The message starts with the name of the invalid argument.
        fault = mine.get((str(error).split(" ", 1)[0],))
        raise BadInput(f"{fault}: {error}" if fault else f"{name}: {error}") from error


def _for_weights(
    model: Choice, section: Section, mine: dict[Path, Setting], notes: list[str]
) -> dict[Path, Setting]:
    """The settings of the data with which pretrained weights were trained, where the user gave none."""
    from ..models.timm_adapter import data_config  # imported late: it imports torch and timm

    learned = data_config(model.entry.arguments["name"])
    settings = {"normalize": "pretrained"}
    if "image_size" in _choose(section, mine, None).entry.fields:
        settings["image_size"] = learned.image_size
    new = {key: value for key, value in settings.items() if (key,) not in mine}
    if new:
        said = ", ".join(f"data.{key} {value}" for key, value in new.items())
        notes.append(f"as the pretrained weights of {model.entry.name} need it: {said}")
    return {(key,): Setting(value, f"data.{key}", "--model.pretrained") for key, value in new.items()}


def _choose(section: Section, mine: dict[Path, Setting], era: str | None) -> Choice:
    setting = mine.get(("name",))
    try:
        entry = section.registry[coerce(setting.value, str) if setting else section.default]
    except ValueError as error:
        raise BadInput(f"{setting}: {error}") from error
    if entry.placeholders:
        raise BadInput(
            f"{setting}: {entry.name} is a pattern; give a value for <{'>, <'.join(entry.placeholders)}>"
        )
    options = {key: f.default for key, f in entry.fields.items()}
    return Choice(section.registry.kind, _as_of(entry, era), options)


def _unknown(name: str, section: Section, choice: Choice | None, key: str) -> str:
    """Why `key` is not a setting of this section, with suggestions."""
    known = [*(choice.entry.fields if choice else ()), *section.fields]
    owner = f"{choice.kind} {choice.entry.name}" if choice else f"section {name}"
    others = [entry.name for entry in section.registry.entries() if key in entry.fields] if choice else []
    hint = nearest(key, known) or (
        f"{', '.join(others[:3])} has it" if others else f"it has {', '.join(known) or 'none'}"
    )
    return f"{owner} has no setting {key!r}; {hint}"


def _switch(
    section: Section, mine: dict[Path, Setting], usual: tuple[str, ...], era: str | None
) -> tuple[dict[str, Choice], list[str], dict[str, Any]]:
    """The enabled tricks, the default ones that are disabled, and what differs from the defaults."""
    on, given = dict.fromkeys(usual, True), {}
    for path, setting in mine.items():
        trick = path[0]
        if len(path) == 1:
            on[trick] = as_switch(setting.value)
            continue
        on[trick] = True
        fields = section.registry[trick].fields
        if path[1] not in fields:
            hint = nearest(path[1], fields) or f"it has {', '.join(fields) or 'none'}"
            raise BadInput(f"{setting}: {section.registry.kind} {trick} has no setting {path[1]!r}; {hint}")
        try:
            given.setdefault(trick, {})[path[1]] = _typed(setting, fields[path[1]])
        except BadInput as error:
            if str(setting.value) not in ("0", "0.0"):
                raise
            raise BadInput(f"{error}; --no-{trick.replace('_', '-')} disables {trick}") from error

    tricks, changed = {}, {}
    for entry in section.registry.entries():
        if on.get(entry.name):
            entry = _as_of(entry, era)
            defaults = {key: entry.facts.defaults.get(key, f.default) for key, f in entry.fields.items()}
            options = defaults | given.get(entry.name, {})
            tricks[entry.name] = Choice(section.registry.kind, entry, options)
            differs = {key: value for key, value in options.items() if value != defaults[key]}
            if differs or entry.name not in usual:
                changed[entry.name] = differs or True
    off = [trick for trick in usual if not on[trick]]
    return tricks, off, changed | dict.fromkeys(off, False)


def _typed(setting: Setting, known: Field) -> Any:
    with where(str(setting)):
        return known.parse(setting.value)
