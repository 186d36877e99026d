"""The fields of a registered thing: the parameters of a function or class, with types, defaults and help.

A field's help is the comment at the end of its line in the source, so that a parameter is described once;
without a comment, it is the `doc` of its annotation, which several parameters may share. It is shown to
people; no program logic reads it.
"""

import ast
import contextlib
import inspect
import io
import sys
import textwrap
import tokenize
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from .contracts import FilePath, alternatives, check, help_of, split
from .errors import nearest
from .files import expanded

FLOAT32_MAX = 3.4e38  # weights and what they are multiplied by are float32
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Field:
    name: str
    type: Any  # an annotation that `coerce` knows, with its bounds and unit
    default: Any  # REQUIRED where there is none
    help: str

    def parse(self, value: Any) -> Any:
        """`value`, from YAML or the command line, as this field's type and within its bounds, or a
        ValueError.
        """
        parsed = coerce(value, self.type)
        check(self.name, parsed, self.type)
        return parsed


@cache
def fields_of(build: Callable) -> dict[str, Field]:
    """The parameters of `build`, in order. An argument that a `partial` has bound is not a field."""
    bound = build.keywords if isinstance(build, partial) else {}
    target = build.func if isinstance(build, partial) else build
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    parameters = inspect.signature(target).parameters
    return {
        name: Field(name, kind, parameter.default, _comment(target, name) or help_of(kind))
        for name, parameter in parameters.items()
        if name not in bound and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        for kind in [hints.get(name, str)]
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
    """The comment at the end of the line of parameter `name`, searched in the class and its bases."""
    target = inspect.unwrap(target)
    for owner in target.__mro__[:-1] if inspect.isclass(target) else (target,):
        if name in (found := _comments(owner)):
            return found[name]
    return ""


@cache
def _comments(owner: Callable) -> dict[str, str]:
    """By annotated name in the source of a class or function, the comment that ends its line."""
    try:
        source = textwrap.dedent(inspect.getsource(owner))
    except (OSError, TypeError):  # not written in Python
        return {}
    lines = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg) and node.annotation:
            lines.setdefault(node.lineno, node.arg)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines.setdefault(node.end_lineno, node.target.id)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    return {name: comments[line].lstrip("# ") for line, name in lines.items() if line in comments}


def coerce(value: Any, kind: Any) -> Any:
    """`value`, typed by the user or of a saved configuration, as the annotated type.

    Args:
        kind: bool, int, float, str, FilePath, `Literal`, `tuple[T, ...]`, or a union of these with None.
    Raises:
        ValueError: it cannot be read as that type; the message says what was expected.
    """
    kind, _ = split(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if len(kinds := alternatives(kind)) > 1:
        if type(None) in kinds and is_none(value):
            return None
        return _first_that_fits(value, [k for k in kinds if k is not type(None)])
    if origin is Literal:
        if value not in args:
            choices = [str(a) for a in args]
            hint = nearest(str(value), choices)
            raise ValueError(f"expected one of {', '.join(choices)}, got {value!r}{hint and '; ' + hint}")
        return value
    if origin is tuple:
        return _coerce_tuple(value, args)
    return _SCALARS[kind](value)


def is_none(value: Any) -> bool:
    """Whether a value says that there is none, in the words of Python or YAML."""
    return value is None or str(value).lower() in ("none", "null", "~", "")


def _first_that_fits(value: Any, kinds: list) -> Any:
    for kind in kinds[:-1]:
        with contextlib.suppress(ValueError):
            return coerce(value, kind)
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
    try:
        return int(value)  # exact, while a float rounds seeds above 2**53
    except ValueError:
        return int(number)  # 1e3


def _float(value: Any, expected: str = "a number") -> float:
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


def _path(value: Any) -> str:
    return expanded(_str(value))


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    FilePath: _path,
}
