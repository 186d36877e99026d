"""Contracts as types: an annotation states the bounds and the unit of a value, once.

    alpha: Annotated[float, Gt(0)] = 1.0
    warmup: Time = 0.0

The bounds are those of `annotated_types`, which pydantic and hypothesis also read. They are checked where a
setting is read (`Field.parse`) and where an object is built by hand (`validated`), shown in `--help`, and the
units decide what a shorter budget scales.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, TypeVar

from annotated_types import DocInfo, Ge, GroupedMetadata, Gt, Interval, Le, Lt, MinLen


@dataclass(frozen=True)
class Unit:
    """What a number counts."""

    name: str  # as --help shows it
    about: str


TIME = Unit("TIME", "epochs, or a fraction of the budget where it is below 1")
EPOCH = Unit("EPOCH", "number of an epoch, from 0")

Time = Annotated[float, Ge(0), TIME]  # a point in time or a length of it
PositiveTime = Annotated[float, Gt(0), TIME]
Epoch = Annotated[int, Ge(0), EPOCH]  # the index of an epoch from 0, or a number of epochs

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Probability = Annotated[float, Interval(ge=0, le=1)]
Fraction = Annotated[float, Interval(gt=0, le=1)]  # of something, and not nothing
Inside = Annotated[float, Interval(gt=0, lt=1)]  # a fraction that is neither nothing nor all
Decay = Annotated[float, Interval(ge=0, lt=1)]  # of a running mean: momentum, betas

Precision = Literal["fp32", "bf16", "fp16"]  # of the arithmetic of a model
FilePath = NewType("FilePath", str)  # of a file or folder: `~` and $VARIABLES stand for what they name

_WORDS = {Gt: ("above", "gt"), Ge: ("at least", "ge"), Lt: ("below", "lt"), Le: ("at most", "le")}


@functools.cache
def split(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without its metadata, and the metadata, with grouped bounds taken apart."""
    if typing.get_origin(kind) is not Annotated:
        return kind, ()
    found: list[Any] = []
    for item in kind.__metadata__:
        found += item if isinstance(item, GroupedMetadata) else [item]
    return kind.__origin__, tuple(found)


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the one annotation."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def unit_of(kind: Any) -> Unit | None:
    """The unit in which a value of this annotation, or an item of it, is counted."""
    inner, metadata = split(kind)
    units = [item for item in metadata if isinstance(item, Unit)]
    return next((unit for unit in (*units, *map(unit_of, _parts(inner))) if unit), None)


def _parts(kind: Any) -> tuple[Any, ...]:
    """The items of a tuple and the members of a union; none of any other annotation."""
    if typing.get_origin(kind) is tuple:
        return tuple(part for part in typing.get_args(kind) if part is not ...)
    members = alternatives(kind)
    return members if len(members) > 1 else ()


def help_of(kind: Any) -> str:
    """The help that an annotation shares with several arguments, `Annotated[float, doc("...")]`, or ""."""
    return next((item.documentation for item in split(kind)[1] if isinstance(item, DocInfo)), "")


def rule(kind: Any) -> str:
    """The bounds of an annotation in words: `above 0 and at most 1`; "" if it has none."""
    inner, metadata = split(kind)
    bounds = [bound for bound in metadata if not isinstance(bound, Unit | DocInfo)]
    match bounds:
        case [Ge(ge=low), Le(le=high)]:
            words = [f"from {low:g} to {high:g}"]
        case _:
            words = [_words(bound) for bound in bounds]
    return " and ".join(word for word in dict.fromkeys([*words, *map(rule, _parts(inner))]) if word)


def _words(bound: Any) -> str:
    if isinstance(bound, MinLen):
        return f"at least {bound.min_length} long"
    word, field = _WORDS[type(bound)]
    return f"{word} {getattr(bound, field):g}"


def satisfies(value: Any, kind: Any) -> bool:
    """Whether a value of the right type keeps the bounds and choices of its annotation."""
    if kind is Any or kind is inspect.Parameter.empty:
        return True
    inner, metadata = split(kind)
    if not all(_holds(value, bound) for bound in metadata):
        return False
    if typing.get_origin(inner) is Literal:
        return value in typing.get_args(inner)
    if typing.get_origin(inner) is tuple and isinstance(value, tuple | list):
        return all(map(satisfies, value, _items(inner, len(value))))
    if len(parts := alternatives(inner)) > 1:
        if value is None:
            return type(None) in parts
        return any(satisfies(value, part) for part in parts if part is not type(None))
    return True


def _items(kind: Any, length: int) -> tuple[Any, ...]:
    parts = typing.get_args(kind)
    return parts[:1] * length if parts[-1:] == (...,) else parts


def _holds(value: Any, bound: Any) -> bool:
    match bound:
        case Gt(gt=limit):
            return value > limit
        case Ge(ge=limit):
            return value >= limit
        case Lt(lt=limit):
            return value < limit
        case Le(le=limit):
            return value <= limit
        case MinLen(min_length=length):
            return len(value) >= length
    return True  # a unit or a help text


def check(argument: str, value: Any, kind: Any) -> None:
    """Raise a ValueError that names the argument, the rule and the value where an annotation is not kept."""
    if satisfies(value, kind):
        return
    choices = [str(choice) for part in alternatives(split(kind)[0]) for choice in _choices(part)]
    expected = f"one of {', '.join(choices)}" if choices else rule(kind)
    raise ValueError(f"{argument} must be {expected}, got {value!r}")


def _choices(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def has_contract(kind: Any) -> bool:
    """Whether an annotation limits its values beyond their type."""
    inner, metadata = split(kind)
    return bool(metadata) or typing.get_origin(inner) is Literal or any(map(has_contract, _parts(inner)))


Built = TypeVar("Built", bound=Callable)


def validated(build: Built) -> Built:
    """The function or class, which now checks its arguments against their annotations when it is called."""
    if isinstance(build, functools.partial):
        return functools.partial(validated(build.func), *build.args, **build.keywords)
    if inspect.isclass(build):
        if "__init__" in vars(build):
            build.__init__ = _checking(build.__init__)
        return build
    return _checking(build)


@functools.cache  # one function for all registrations that bind other arguments of it
def _checking(function: Callable) -> Callable:
    if hasattr(function, "_contracts"):
        return function
    signature = inspect.signature(function)

    @functools.cache
    def contracts() -> dict[str, Any]:
        hints = typing.get_type_hints(function, include_extras=True)
        return {name: hint for name, hint in hints.items() if name != "return" and has_contract(hint)}

    @functools.wraps(function)
    def checking(*args, **kwargs):
        arguments = signature.bind(*args, **kwargs).arguments
        for name, kind in contracts().items():
            if name in arguments:
                check(name, arguments[name], kind)
        return function(*args, **kwargs)

    checking._contracts = contracts
    return checking
