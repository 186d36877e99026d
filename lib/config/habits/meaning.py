"""What a setting of another project means: one of ours, a conversion, nothing, or a refusal.

A conversion gets a value, of the type of its annotation, and all settings that were given; it returns our
keys with their values. Its docstring says what is set, in docs/migrating.md and where it sets nothing. A
ValueError says what to write instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Pairs = list[tuple[str, Any]]  # keys with their values
Given = Mapping[str, Any]  # the settings of all sources, by key
Conversion = Callable[[Any, Given], Pairs]


# Reasons that several projects share.
RESIDENT = "images stay on the device, so nothing is pinned, prefetched or tuned"
LOGGED = "every epoch is logged, and a line every 30 s"
LATEST = "the latest checkpoint is kept; --save-every sets the epochs between two"
SAME_BATCH = "the batch of the evaluation changes no result"


class Idle(NamedTuple):
    """A setting that changes nothing here."""

    reason: str


class Refused(NamedTuple):
    """A setting without counterpart."""

    instead: str


Meaning = str | Conversion | Idle | Refused  # our key, or what becomes of the value


@dataclass(frozen=True)
class Project:
    name: str
    url: str
    dashes: str  # before its flags
    same: dict[str, str] = field(default_factory=dict)  # by our key: spellings of the same
    converted: dict[Conversion, str] = field(default_factory=dict)  # by what converts the value
    idle: dict[str, str] = field(default_factory=dict)  # by the reason: spellings that set nothing here
    refused: dict[str, str] = field(default_factory=dict)  # by what to write instead

    def meanings(self) -> dict[str, Meaning]:
        """What each spelling means, in the order of the tables."""
        tables = (self.same, self.converted, {Idle(reason): words for reason, words in self.idle.items()})
        tables += ({Refused(instead): words for instead, words in self.refused.items()},)
        return {key: meaning for table in tables for meaning, words in table.items() for key in words.split()}


def given_as(given: Given, *keys: str) -> Any:
    """The value given under one of the keys, or None."""
    return next((given[key] for key in keys if key in given), None)


def probability_of(key: str, default: str) -> Conversion:
    """The key of a trick; 0 disables it."""

    def convert(value: float, given: Given) -> Pairs:
        return [(key, value) if value else (key.rpartition(".")[0], False)]

    convert.__doc__ = f"`--{default}`; 0 disables it."
    return convert


def only(*values: Any, instead: str) -> Conversion:
    """Accept the values with which nothing differs here, and say what to write instead of others."""

    def convert(value: str, given: Given) -> Pairs:
        if value.lower() not in map(str, values):
            raise ValueError(instead)
        return []

    convert.__doc__ = f"{' or '.join(map(str, values))}, as here. Otherwise: {instead}."
    return convert
