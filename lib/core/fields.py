"""The fields of a registered thing: the parameters of a function or class, with types, defaults and help.

A field's help is the comment behind it in the source, so that a parameter is described in one place only.
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from .errors import nearest

PACKAGE = __package__.rpartition(".")[0] + "."  # of this project; no help is read from another's source
FLOAT32_MAX = 3.4e38  # weights and what they are multiplied by are float32
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Field:
    name: str
    type: Any  # an annotation that `coerce` knows
    default: Any  # REQUIRED where there is none
    help: str


@cache
def fields_of(build: Callable) -> dict[str, Field]:
    """The parameters of `build`, in order. What a `partial` has bound is part of its name, hence no field."""
    bound = build.keywords if isinstance(build, partial) else {}
    target = build.func if isinstance(build, partial) else build
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    parameters = inspect.signature(target).parameters
    return {
        name: Field(name, hints.get(name, str), parameter.default, _comment(target, name))
        for name, parameter in parameters.items()
        if name not in bound and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def module_of(build: Callable) -> str:
    """The name of the module in which the parameters of `build` are written down."""
    return (build.func if isinstance(build, partial) else build).__module__


def about(build: Callable) -> str:
    """The first line of the documentation: the thing's own, or its module's where a file is one idea."""
    target = build.func if isinstance(build, partial) else build
    own = target.__doc__ or ""
    if not own or own.startswith(f"{target.__name__}("):  # a dataclass without one gets its signature
        own = sys.modules[target.__module__].__doc__ or ""
    return own.strip().partition("\n")[0]


def _comment(target: Callable, name: str) -> str:
    """The comment behind the parameter `name`, searched in the class and its bases."""
    line = re.compile(rf"^\s*{name}\s*:[^#\n]*#\s*(.+)$", re.MULTILINE)
    for owner in target.__mro__ if inspect.isclass(target) else (target,):
        if owner.__module__.startswith(PACKAGE) and (found := line.search(_source(owner))):
            return found[1].strip()
    return ""


@cache
def _source(owner: Callable) -> str:
    return inspect.getsource(owner)


def coerce(value: Any, kind: Any) -> Any:
    """`value`, from YAML or the command line, as the annotated type.

    Args:
        value: text as typed by the user, or what YAML made of it.
        kind: bool, int, float, str, `Literal`, `tuple[T, ...]`, or a union of these with None.
    Raises:
        ValueError: it cannot be read as that type; the message says what was expected.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and str(value).lower() in ("none", "null"):
            return None
        return _first_that_fits(value, [a for a in args if a is not type(None)])
    if origin is Literal:
        if value not in args:
            choices = [str(a) for a in args]
            hint = nearest(str(value), choices)
            raise ValueError(f"expected one of {', '.join(choices)}, got {value!r}{hint and '; ' + hint}")
        return value
    if origin is tuple:
        return _coerce_tuple(value, args)
    return _SCALARS[kind](value)


def _first_that_fits(value: Any, kinds: list) -> Any:
    for kind in kinds[:-1]:
        try:
            return coerce(value, kind)
        except ValueError:
            pass
    return coerce(value, kinds[-1])


def _coerce_tuple(value: Any, args: tuple) -> tuple:
    """`60,120,160`, `[60, 120]` or a YAML list; a fixed length where the annotation fixes one."""
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[]() ").split(",") if part.strip()]
    items = list(value) if isinstance(value, list | tuple) else [value]
    if args[-1] is Ellipsis:
        return tuple(coerce(item, args[0]) for item in items)
    if len(items) != len(args):
        raise ValueError(f"expected {len(args)} values, got {len(items)}")
    return tuple(coerce(item, kind) for item, kind in zip(items, args, strict=True))


def _bool(value: Any) -> bool:
    text = str(value).lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"expected true or false, got {value!r}")


def _int(value: Any) -> int:
    number = _float(value, "a whole number")
    if number != int(number):
        raise ValueError(f"expected a whole number, got {value!r}")
    return int(number)


def _float(value: Any, expected: str = "a number") -> float:
    # YAML reads `1e-3` as text and `true` as a bool; the first is a number to us, the second is not.
    try:
        # Python also reads 28_10 as a number, which would swallow the parts of a model's name.
        number = float("nan") if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) <= FLOAT32_MAX:
        raise ValueError(f"expected {expected}, got {value!r}")
    return number


def _str(value: Any) -> str:
    if isinstance(value, list | dict | bool) or value is None:
        raise ValueError(f"expected text, got {value!r}")
    return str(value)


_SCALARS: dict[type, Callable[[Any], Any]] = {bool: _bool, int: _int, float: _float, str: _str}
