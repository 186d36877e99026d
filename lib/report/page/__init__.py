"""The results as one page of HTML that needs no network, no server and no other file.

The table and the figures are made in Python, and readable without JavaScript, which sorts, filters and shows
the details of a run. It computes no number.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

from ..mistakes import Mistake
from ..records import Records
from .content import gather, readable
from .explanations import lead, notes
from .figures import effects, run_curves
from .markup import Markup, join, tag
from .mistakes import mistakes_section
from .runs import runs_data
from .settings import settings_table, sort_options

HERE = Path(__file__).parent
STYLES = ("style.css", "run.css")
SCRIPTS = ("dom.js", "table.js", "run.js")


def results_page(
    records: Records,
    baseline: str | None,
    title: str,
    paired: bool,
    mistakes: Sequence[Mistake] = (),
) -> str:
    """The page of these records, with arguments as of `gather`, and the mistakes of a single run."""
    content = gather(records, baseline, paired)
    style = _files(STYLES)
    script = f'(() => {{\n"use strict";\n{_files(SCRIPTS)}\n}})();'
    parts = {
        # Nothing is loaded, and no other script runs, whatever a record contains.
        "policy": f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        "title": join(title),
        "style": style,
        "lead": lead(content),
        "effects": effects(content),
        "filters": join(
            _filter("Trick", "trick", content.labels),
            _filter("Status", "status", content.statuses),
            _filter("Data set", "dataset", content.datasets),
        ),
        "orders": join(*sort_options(content)),
        "table": settings_table(content),
        "mistakes": mistakes_section(mistakes),
        "notes": notes(content),
        "curves": run_curves(content),
        "data": _json({"runs": runs_data(content)}),
        "script": script,
    }
    return readable(Template((HERE / "template.html").read_text()).substitute(parts))


def _filter(label: str, name: str, values: list[str]) -> Markup:
    """A selector for one of the values; hidden if there are fewer than two."""
    options = (tag("option", value, value=place) for place, value in enumerate(values))
    select = tag("select", tag("option", "any", value=""), *options, name=name)
    return tag("label", f"{label} ", select, hidden=len(values) < 2)


def _files(names: tuple[str, ...]) -> str:
    return "\n".join((HERE / name).read_text() for name in names)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(content: object) -> str:
    """JSON for a script element, which a `<` in a text could end."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
