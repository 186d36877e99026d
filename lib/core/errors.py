"""What a user can get wrong ends in one line: what is wrong, where, and what to do instead."""

import difflib
import sys
from collections.abc import Callable, Iterable


class BadInput(Exception):
    """Something cannot be used as asked; the program prints the line and exits with 2."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean a, b?` for the known names that look like `name`, or an empty string."""
    known = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    return f"did you mean {', '.join(known[c] for c in close)}?" if close else ""


def require(holds: bool, argument: str, rule: str, value: object) -> None:
    """Refuse an argument: raises ValueError that names the argument, the rule and the value got."""
    if not holds:
        raise ValueError(f"{argument} must be {rule}, got {value!r}")


def exit_code(command: Callable[..., int | None], *arguments) -> int:
    """Run a command: its exit code, 0 where it gives none; for bad input 2, after one line that says what."""
    try:
        return command(*arguments) or 0
    except BadInput as error:
        complain(error)
        return 2


def complain(error: BadInput) -> None:
    """Say in one line what is wrong; what a library had to say may hold line breaks."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
