"""The texts of the page: a summary, the meaning of the numbers, and the records left out."""

from ..text import count
from .content import Content
from .markup import Markup, join, tag


def lead(content: Content) -> Markup:
    runs = f"{count(len(content.runs), 'run')} of {count(len(content.settings), 'setting')}"
    left = f" {count(len(content.left_out), 'record')} left out, named below." if content.left_out else ""
    headline = content.tables[0].headline.replace(", %", "")
    return join(f"{runs} on {', '.join(content.datasets)}. Accuracy is the {headline}.", left)


def notes(content: Content) -> Markup:
    by_table = [(table, note) for table in content.tables for note in table.notes]
    several = len(content.tables) > 1
    texts = [
        # A note that applies to every table is shown once.
        *dict.fromkeys(
            note if not several or _everywhere(note, content) else f"On {table.dataset}: {note}"
            for table, note in by_table
        ),
        *content.refused,
        "Time is the training time only, on the machine in the environment of the run. PFLOP are 10¹⁵ "
        "floating-point operations of training; a multiplication and its addition count as two. Older "
        "records have none.",
    ]
    items = (tag("li", text) for text in texts)
    return join(tag("h2", "How to read this"), tag("ul", *items), _left_out(content))


def _everywhere(note: str, content: Content) -> bool:
    return all(note in table.notes for table in content.tables)


def _left_out(content: Content) -> Markup | None:
    if not content.left_out:
        return tag("p", "No record is left out.", class_="soft", id="left-out")
    rows = [tag("li", tag("code", path), f": {why}") for path, why in content.left_out]
    head = tag("h2", f"{count(len(content.left_out), 'record')} left out")
    return tag("section", head, tag("ul", *rows), id="left-out")
