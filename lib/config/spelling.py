"""Keys as users spell them: `cutout_size`, `augment.cutout.size`, `lr`... each names one setting."""

from collections.abc import Iterator

from ..core.errors import BadInput, nearest
from ..core.fields import Field
from ..core.registry import PROGRAM
from . import habits
from .compose import Path
from .schema import SECTIONS


def path_of(key: str) -> Path:
    """The path of the one setting that is spelled so.

    Raises:
        BadInput: no setting or more than one is spelled so; the message holds the candidates.
    """
    key = habits.normal(key)
    paths = list(dict.fromkeys(_dotted(key) if "." in key else _bare(key)))
    if len(paths) > 1:
        full = ", ".join(".".join(path) for path in paths)
        raise BadInput(f"{key!r} may mean {full}; write it in full")
    if not paths:
        if any(key in entry.fields for entry in SECTIONS["model"].registry.entries()):
            raise BadInput(f"unknown setting {key!r}: did you mean model.{key}?")
        known = full_spellings() if "." in key else spellings()
        hint = nearest(key, known) or nearest(key, habits.SPELLINGS) or f"see {PROGRAM} --help"
        raise BadInput(f"unknown setting {key!r}: {hint}")
    return paths[0]


def is_written(key: str, path: Path) -> bool:
    """Whether a key is our own spelling of a path, and so of no other project."""
    try:
        return path_of(key)[: len(path)] == path[: len(path_of(key))]
    except BadInput:
        return False


def is_switch(key: str) -> bool:
    """Whether the setting may be given without a value: a trick, or a boolean option."""
    if (known := habits.is_switch(key)) is not None:
        return known
    key = habits.ours(key)
    section, *names = path_of(key)
    registry = SECTIONS[section].registry
    if SECTIONS[section].is_tricks:
        return len(names) == 1 or _is_bool(registry[names[0]].fields.get(names[1]))
    options = [entry.fields.get(names[-1]) for entry in registry.entries()] if registry else []
    return any(map(_is_bool, [SECTIONS[section].fields.get(names[-1]), *options]))


def _is_bool(field: Field | None) -> bool:
    return field is not None and field.type is bool


def _dotted(key: str) -> Iterator[Path]:
    """`augment.cutout.size`, `optim.lr`, `model.resnet_preact.depth`."""
    section_name, name, *rest = key.split(".")
    section = SECTIONS.get(section_name)
    if section is None or len(rest) > 1:
        return
    if section.is_tricks:
        trick = name.removeprefix("use_")
        if trick in section.registry:
            yield (section_name, section.registry[trick].name, *rest)
    elif not rest:
        yield (section_name, name)
    elif section.is_choice and name in section.registry:
        yield (section_name, section.registry[name].name, *rest)


def _bare(key: str) -> Iterator[Path]:
    """`model`, `cutout`, `cutout_size`, `epochs`, `lr`."""
    section = habits.SECTIONS.get(key, key)
    if section in SECTIONS and SECTIONS[section].is_choice:
        yield (section, "name")
        return
    for spelling, path in _tricks():
        if key == spelling:
            yield path
    for name, section in SECTIONS.items():
        # The options of 200 models would leave no short word free: theirs are spelled `model.<option>`.
        choices = section.registry.entries() if section.is_choice and name != "model" else ()
        if key in section.fields or any(key in entry.fields for entry in choices):
            yield (name, key)


def _tricks() -> Iterator[tuple[str, Path]]:
    """Every bare spelling of a trick and of its fields."""
    for name, section in SECTIONS.items():
        for entry in section.registry.entries() if section.is_tricks else ():
            for spelling in (entry.name, *entry.aliases):
                yield spelling, (name, entry.name)
                for field in entry.fields:
                    yield f"{spelling}_{field}", (name, entry.name, field)


def spellings() -> list[str]:
    """The spellings to suggest: sections that choose, tricks with their fields, settings."""
    choices = [name for name, section in SECTIONS.items() if section.is_choice]
    settings = [key for section in SECTIONS.values() for key in section.fields]
    options = [
        field
        for name, section in SECTIONS.items()
        for entry in (section.registry.entries() if section.is_choice and name != "model" else ())
        for field in entry.fields
    ]
    tricks = [spelling for spelling, _ in _tricks()]
    return [*choices, *tricks, *settings, *options]


def full_spellings() -> list[str]:
    """The spellings to suggest for a key with a dot."""
    keys = [
        f"{name}.{key}"
        for name, section in SECTIONS.items()
        for owner in (section, *(section.registry.entries() if section.is_choice else ()))
        for key in owner.fields
    ]
    return [*keys, *(".".join(path) for _, path in _tricks())]
