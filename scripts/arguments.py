"""The arguments of the programs here: argparse, with an error in one line."""

import argparse
from pathlib import Path
from typing import NoReturn

from lib.core.errors import BadInput, complain
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
