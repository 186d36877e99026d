"""Tables and wrapped text for the console, laid out by rich."""

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

UNBOUNDED = 10_000  # columns, for output that other programs read line by line


def render(*parts: RenderableType, one_line_per_row: bool = False) -> str:
    """The parts as wide as the terminal or $COLUMNS, else 80 columns; in colour on a terminal only.

    Args:
        one_line_per_row: wrap nothing in a pipe, so that grep finds whole rows.
    """
    has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(
        width=UNBOUNDED if one_line_per_row and not has_width else None,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        markup=False,  # [1, 2, 1] is text
        highlight=False,
        emoji=False,
    )
    with console.capture() as captured:
        console.print(Group(*parts))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


class Short:
    """Text in one line, cut between words where the place ends."""

    def __init__(self, text: str):
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield Text(textwrap.shorten(self.text, options.max_width, placeholder=" ..."), no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(20, len(self.text)), len(self.text))


def rows(cells: Iterable[tuple[str, str]], short: bool = False) -> RenderableType:
    """Indented rows of a flag and its help.

    Args:
        short: give each row one line.
    """
    cells = list(cells)
    width = max((len(flag) for flag, _ in cells), default=0)
    # Half a narrow terminal; a longer flag is wrapped, unless rows have one line.
    flags = Column(style="cyan", min_width=width) if short else Column(style="cyan", max_width=38)
    table = Table.grid(flags, Column(), padding=(0, 2, 0, 0))
    for flag, text in cells:
        table.add_row(flag, Short(text) if short else text)
    return indented(table)


def indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))
