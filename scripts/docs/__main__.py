"""`python -m scripts.docs [--check] [--all]`: renew the generated parts of the README, docs/ and results/.

The pages of models, augmentations and tricks are made from the registries; blocks of other pages are the
output of commands (scripts/docs/blocks.py). Only what is new is counted or tried.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from lib.core.errors import exit_code
from lib.core.files import write_atomic
from scripts.docs import augmentations, blocks, migrating, models, transcripts, tricks
from scripts.docs.page import ROOT, is_current

from ..arguments import Parser


def main(argv: list[str]) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is old")
    parser.add_argument("--all", action="store_true", help="recount all models and retry all pairs of tricks")
    asked = parser.parse_args(argv)
    return exit_code(renew, asked.check, asked.all)


def renew(check: bool, everything: bool) -> int:
    """Write the files that are out of date, or with `check` only name them; returns the exit code."""
    stale = False
    for path, content in outdated(everything, write=not check):
        stale = True
        print(f"{'out of date' if check else 'renewed'}: {path.relative_to(ROOT)}")
        if not check:
            write_atomic(path, content)
    for path in leftover():
        stale = True
        print(f"{'superfluous' if check else 'removed'}: {path.relative_to(ROOT)}")
        if not check:
            path.unlink()
    if stale and check:
        print("make docs renews them")
    return int(stale and check)


def outdated(everything: bool, write: bool) -> Iterator[tuple[Path, str | bytes]]:
    """The generated files that are out of date, with the content they should have."""
    for generator in (models, augmentations, tricks, migrating, transcripts):
        for path, content in generator.files(everything).items():
            if not is_current(path, content):
                yield path, content
    yield from blocks.outdated(ROOT, write)


def leftover() -> list[Path]:
    """Figures of augmentations that no longer exist."""
    return [path for path in augmentations.PICTURES.glob("*.png") if path.stem not in augmentations.names()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
