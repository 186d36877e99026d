"""Settings as users of other projects spell them, rewritten to ours before anything else reads them."""

import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ...core.fields import coerce, is_none
from ...core.registry import folded
from . import images, learning, networks
from .meaning import Conversion, Given, Idle, Meaning, Pairs, Refused
from .tables import PROJECTS

# Sections by the names that other projects give them.
SECTIONS = {"dataset": "data", "augmentation": "augment", "optimizer": "optim", "scheduler": "schedule"}

# Our settings that take values of other projects too, and their short spellings.
VALUES: Mapping[str, Conversion] = {
    "model.name": networks.model,
    "data.name": images.dataset,
    "data.image_size": images.image_size,
    "data.workers": images.workers,
    "train.precision": learning.precision,
}
SHORT = {key.removesuffix(".name").rpartition(".")[2]: key for key in VALUES} | {"dataset": "data.name"}

OFF = "off, as here"  # the reason why such a value sets nothing


def normal(key: str) -> str:
    """A key with today's name of its section, in lower case, and with `_` for `-`."""
    head, dot, rest = folded(key).partition(".")
    return SECTIONS.get(head, head) + dot + rest if dot else head


MEANINGS: Mapping[str, Meaning] = {
    normal(key): meaning for project in PROJECTS for key, meaning in project.meanings().items()
}
# To suggest where a key is near none of ours.
SPELLINGS = tuple(key for key, meaning in MEANINGS.items() if not isinstance(meaning, Idle | Refused))


def given_by(pairs: Iterable[tuple[str, Any, str]]) -> Given:
    """What conversions may read: all settings, by our key where another project's is only a name for it."""
    return {ours(key): value for key, value, _ in pairs}


def rewrite(key: str, value: Any, given: Given) -> tuple[Pairs, str]:
    """Our keys and values for a key with its value, and where there are none, the reason.

    Raises:
        ValueError: it has no counterpart here; the message says what to write instead.
    """
    match meaning := MEANINGS.get(normal(key)):
        case None | str():
            key = ours(key)
            meaning = VALUES.get(SHORT.get(key, key))
            if meaning is None or not isinstance(value, str) or is_none(value):
                return [(key, value)], ""
        case Idle(reason):
            return [], reason
        case Refused(instead):
            if not _is_off(value):
                raise ValueError(f"it has no counterpart here; {instead}")
            return [], OFF
    pairs = [] if is_none(value) else meaning(coerce(value, _kind(meaning)), given)
    return pairs, OFF if _is_off(value) else meaning.__doc__.splitlines()[0]


def ours(key: str) -> str:
    """Our key, where another project's is only a name for it."""
    meaning = MEANINGS.get(normal(key))
    return meaning if isinstance(meaning, str) else normal(key)


def is_known(key: str) -> bool:
    """Whether a key is that of another project."""
    return normal(key) in MEANINGS


def is_switch(key: str) -> bool | None:
    """Whether another project's flag may be given without a value; None for a key that is only a name."""
    match meaning := MEANINGS.get(normal(key)):
        case None | str():
            return None
        case Idle() | Refused():
            return True
    return bool in (kind := _kind(meaning), *typing.get_args(kind))


def _is_off(value: Any) -> bool:
    return is_none(value) or str(value).lower() in ("false", "0", "0.0")


@cache
def _kind(conversion: Conversion) -> Any:
    return typing.get_type_hints(conversion)["value"]
