"""A table as text: Markdown, LaTeX and HTML for readers; CSV and JSON with all digits for programs."""

import csv
import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple
from typing import Any

from ..core.errors import BadInput, nearest
from .table import Difference, Estimate, Table, TableRow
from .table_notes import status_text
from .text import NONE, count, number, p_value, petaflop

LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "✓": r"$\checkmark$", "–": "--"}
)


def render(table: Table, form: str, drop: Sequence[str] = ()) -> str:
    """The table in one of FORMATS.

    Args:
        drop: names of columns that readers do without.
    Raises:
        BadInput: there is no such column, or the form is one for programs, which choose themselves.
    """
    if form in FOR_READERS:
        return FOR_READERS[form](cells(table, drop), remarks(table))
    if drop:
        raise BadInput(f"--format {form} is for programs, which choose its columns themselves; remove --drop")
    return FOR_PROGRAMS[form](table)


def cells(table: Table, drop: Sequence[str] = ()) -> list[list[str]]:
    """The header and the rows, as text."""
    columns = _columns(table)
    for name in drop:
        if name not in columns:
            hint = nearest(name, columns) or f"there are {', '.join(columns)}"
            raise BadInput(f"--drop {name}: there is no such column; {hint}")
    shown = [column for name, column in columns.items() if name not in drop]
    if not shown:
        raise BadInput("--drop leaves no column; name fewer")
    return [[header for header, _ in shown], *([text(row) for _, text in shown] for row in table.rows)]


def remarks(table: Table) -> list[str]:
    """The notes below a table, and the records that were left out."""
    left_out = [f"{path}: {why}" for path, why in table.left_out]
    counted = count(len(left_out), "record")
    return [*table.notes, *([f"{counted} left out of the means. {'; '.join(left_out)}."] if left_out else [])]


def _columns(table: Table) -> dict[str, tuple[str, Callable[[TableRow], str]]]:
    """By name, the header of a column and its text in a row; one that is empty in all rows is omitted."""
    ticks = list(table.rows[0].ticks)
    described = {tuple(row.ticks.values()) for row in table.rows}
    found: dict[str, tuple[str, Callable[[TableRow], str]]] = {}
    if len(described) < len(table.rows) or not ticks:  # ticks alone would not distinguish the rows
        found["setting"] = "setting", lambda row: row.name
    for tick in ticks:
        found[tick] = tick, lambda row, tick=tick: row.ticks[tick]
    found["n"] = "n", lambda row: str(len(row.values))
    found["accuracy"] = table.headline, lambda row: spread(row.accuracy)
    found["interval"] = "95 % interval", lambda row: interval(row.accuracy)
    if table.baseline is not None:
        found["difference"] = f"difference to {table.baseline}", _to_baseline
        found["p"] = "p (Holm)", lambda row: p_value(row.difference and row.difference.p_holm)
        found["verdict"] = "verdict", lambda row: row.difference.verdict if row.difference else NONE
    if any(row.two_level for row in table.rows):
        found["two_level"] = "over seeds and images", lambda row: interval(row.two_level)
        if table.baseline is not None:
            found["two_level_difference"] = (
                "difference over both",
                lambda row: difference(row.two_level_difference),
            )
    for name, label in table.columns.items():
        found[name] = label, lambda row, name=name: spread(row.columns.get(name))
    found["seconds"] = "training, s", lambda row: number(row.seconds, ",.0f")
    found["flops"] = "PFLOP", lambda row: petaflop(row.flops)
    if any(row.published is not None for row in table.rows):
        found["published"] = "published, %", lambda row: number(row.published)
        found["less_published"] = "less published", _less_published
    return found | {"runs": ("runs", status_text)}


def spread(estimate: Estimate | None) -> str:
    """`73.63 ± 0.43`; for a single run, its value."""
    if estimate is None:
        return NONE
    return number(estimate.mean) + ("" if estimate.sd is None else f" ± {number(estimate.sd)}")


def interval(estimate: Estimate | None) -> str:
    """`[72.56, 74.71]`, or the reason why there is none."""
    if estimate is None:
        return NONE
    if estimate.low is None:
        return "one run: no interval" if estimate.n == 1 else "no interval"
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def difference(found: Difference | None) -> str:
    """`-1.59 [-3.13, -0.05]`; without an interval the difference alone."""
    if found is None:
        return NONE
    return f"{found.mean:+.2f}" + ("" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]")


def _to_baseline(row: TableRow) -> str:
    return "baseline" if row.baseline else difference(row.difference)


def _less_published(row: TableRow) -> str:
    missing = row.published is None or row.accuracy is None
    return NONE if missing else f"{row.accuracy.mean - row.published:+.2f}"


def _markdown(lines: Sequence[Sequence[str]], remarks: Sequence[str]) -> str:
    header, *rows = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    lines = [header, ["---"] * len(header), *rows]
    notes = "".join(f"\n- {note}" for note in remarks)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + (f"{notes}\n" if notes else "")


def _latex(lines: Sequence[Sequence[str]], remarks: Sequence[str]) -> str:
    """A tabular with the notes below; needs booktabs and amssymb."""
    header, *rows = [[cell.translate(LATEX) for cell in line] for line in lines]
    body = "".join(f"{' & '.join(row)} \\\\\n" for row in rows)
    notes = "".join(f"\\par {note.translate(LATEX)}\n" for note in remarks)
    return (
        f"\\begin{{tabular}}{{{'l' * len(header)}}}\n\\toprule\n{' & '.join(header)} \\\\\n\\midrule\n{body}"
        f"\\bottomrule\n\\end{{tabular}}\n{{\\footnotesize\n{notes}}}\n"
    )


def _html(lines: Sequence[Sequence[str]], remarks: Sequence[str]) -> str:
    """A table and a list of notes, for use in a page."""

    def line(tag: str, content: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in content) + "</tr>\n"

    header, *rows = lines
    body = "".join(line("td", row) for row in rows)
    notes = "".join(f"<li>{html.escape(note)}</li>\n" for note in remarks)
    head = line("th", header)
    return f"<table>\n<thead>\n{head}</thead>\n<tbody>\n{body}</tbody>\n</table>\n<ul>\n{notes}</ul>\n"


def _json(table: Table) -> str:
    return json.dumps(asdict(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(table: Table) -> str:
    """A line for each row, with an empty field where there is no number."""
    rows, buffer = [flat(row, table) for row in table.rows], io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def flat(row: TableRow, table: Table) -> dict[str, Any]:
    """The numbers of a row with all digits, under names that all rows share."""

    def named(names: str, value: Any) -> dict[str, Any]:
        keys = names.split()
        return dict(zip(keys, astuple(value) if value else [None] * len(keys), strict=True))

    line = {"setting": row.name, "hash": row.setting, "baseline": row.baseline, **row.ticks}
    line |= named("n mean sd low high", row.accuracy)
    line |= named("difference difference_low difference_high p p_holm verdict", row.difference)
    if any(other.two_level for other in table.rows):
        line |= named("seeds two_level_mean two_level_sd two_level_low two_level_high", row.two_level)
    for name in table.columns:
        line |= named(f"{name}_n {name}_mean {name}_sd {name}_low {name}_high", row.columns.get(name))
    line |= {"seconds": row.seconds, "flops": row.flops, "published": row.published}
    return line | {"runs": status_text(row), "values": " ".join(map(repr, row.values))}


FOR_READERS = {"md": _markdown, "latex": _latex, "html": _html}
FOR_PROGRAMS = {"csv": _csv, "json": _json}
FORMATS = (*FOR_READERS, *FOR_PROGRAMS)
