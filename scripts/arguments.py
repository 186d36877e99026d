"""The arguments of the programs here: argparse, with an error in one line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lib.core.contracts import check
from lib.core.errors import BadInput, complain
from lib.core.fields import coerce
from lib.core.files import user_path


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        complain(BadInput(f"{message}; see {self.prog} --help"))
        self.exit(2)


def file_path(text: str) -> Path:
    """The `type` of an argument that is a path."""
    try:
        return user_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def within(kind: Any) -> Callable[[str], Any]:
    """The `type` of an argument with the bounds of an annotation, such as `Count`."""

    def parse(text: str) -> Any:
        try:
            value = coerce(text, kind)
            check("the value", value, kind)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return value

    return parse
