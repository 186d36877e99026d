"""The table of settings: a body for each, with a row for the setting and one for each of its runs."""

from typing import NamedTuple
from urllib.parse import quote

from ..records import RunRecord
from ..render import difference, interval, spread
from ..text import NONE, duration, number, p_value, petaflop, with_minus
from .content import Content, Setting
from .figures import anchor
from .markup import Markup, join, tag

MANY = 12  # tricks shown as columns of ticks; with more, each row lists its names


class Column(NamedTuple):
    label: str
    kind: str  # text or number
    first: str  # initial sort order
    note: str = ""  # in small print below the label


COLUMNS = (
    Column("setting", "text", "ascending"),
    Column("tricks", "text", "ascending"),
    Column("n", "number", "descending"),
    Column("accuracy", "number", "descending", "%, mean ± sd"),
    Column("interval", "number", "descending", "95 %"),
    Column("difference", "number", "descending", "95 % interval"),
    Column("p", "number", "ascending", "Holm"),
    Column("time", "number", "ascending", "a run"),
    Column("PFLOP", "number", "ascending", "a run"),
    Column("status", "text", "ascending"),
)
FIRST = "accuracy"  # initially sorted column


def columns(content: Content) -> list[Column]:
    """The columns with a value for any setting."""
    rows = [setting.row for setting in content.settings]
    differences = [row.difference for row in rows if row.difference]
    used = {
        "tricks": bool(content.tricks),
        "interval": any(row.accuracy and row.accuracy.low is not None for row in rows),
        "difference": bool(differences),
        "p": any(gap.p_holm is not None for gap in differences),
        "PFLOP": any(row.flops is not None for row in rows),
    }
    return [column for column in COLUMNS if used.get(column.label, True)]


def settings_table(content: Content) -> Markup:
    shown = columns(content)
    matrix = 0 < len(content.tricks) <= MANY
    return tag(
        "table",
        tag("caption", "Settings, each with its runs", class_="unseen"),
        tag("thead", tag("tr", *(_head(column, content.labels if matrix else []) for column in shown))),
        *(_body(place, setting, content, shown) for place, setting in enumerate(content.settings)),
        class_="matrix" if matrix else None,
    )


def sort_options(content: Content) -> list[Markup]:
    """Sort orders, for windows too narrow for headings."""
    orders = {"text": ("A to Z", "Z to A"), "number": ("lowest first", "highest first")}
    return [
        tag(
            "option",
            f"{column.label}, {words}",
            value=f"{place} {way}",
            selected=column.label == FIRST and way == column.first,
        )
        for place, column in enumerate(columns(content))
        for way, words in zip(("ascending", "descending"), orders[column.kind], strict=True)
    ]


def badge_of(status: str) -> str:
    return {"ok": "ok", "diverged": "bad"}.get(status, "stopped")


def _head(column: Column, tricks: list[str]) -> Markup:
    names = [tag("li", tag("span", name)) for name in tricks] if column.label == "tricks" else []
    label = tag("span", column.label, class_="label")
    return tag(
        "th",
        tag("ul", *names, class_="ticks", aria_hidden="true") if names else None,
        tag("button", label, tag("small", column.note) if column.note else None, type="button"),
        scope="col",
        class_=column.kind,
        data_kind=column.kind,
        data_first=column.first,
        aria_sort=column.first if column.label == FIRST else None,
    )


def _body(place: int, setting: Setting, content: Content, shown: list[Column]) -> Markup:
    row, on = setting.row, content.on(setting)
    mean, gap = row.accuracy, row.difference
    n = mean.n if mean else 0
    # For each column its content and its sort key.
    cells = {
        "setting": (_name(setting, content), row.name),
        "tricks": (_ticks(on, content), ", ".join(on.values())),
        "n": (n, n),
        "accuracy": (spread(mean), mean and mean.mean),
        "interval": (interval(mean) if mean and mean.low is not None else NONE, mean and mean.low),
        "difference": (difference(gap), gap and gap.mean),
        "p": (p_value(gap and gap.p_holm), gap and gap.p_holm),
        "time": (duration(row.seconds), row.seconds),
        "PFLOP": (petaflop(row.flops), row.flops),
        "status": (_statuses(row.status), ", ".join(row.status)),
    }
    return tag(
        "tbody",
        tag("tr", *(_cell(column, *cells[column.label]) for column in shown), class_="setting"),
        *(_run(run, content, shown) for run in setting.runs),
        id=anchor(place),
        class_="baseline" if row.baseline else None,
        data_text=setting.text,
        data_tricks=" ".join(map(str, on)),
        data_status=" ".join(str(content.statuses.index(status)) for status in row.status),
        data_dataset=content.datasets.index(setting.dataset),
    )


def _run(run: RunRecord, content: Content, shown: list[Column]) -> Markup:
    name = content.names[run.folder]
    seconds = run.result.get("seconds")
    link = tag("a", f"seed {run.seed}", class_="run", href=f"#run={quote(name, safe='')}", data_run=name)
    why = content.reasons.get(str(run.folder))
    cells = {
        "setting": join(link, tag("small", why, class_="why") if why else None),
        "accuracy": number(run.result.get("test_accuracy")),
        "time": duration(seconds.get("train") if isinstance(seconds, dict) else None),
        "PFLOP": petaflop(run.result.get("train_flops")),
        "status": tag("span", run.status, class_=f"badge {badge_of(run.status)}"),
    }
    return tag("tr", *(_cell(column, cells.get(column.label)) for column in shown), class_="run")


def _cell(column: Column, shown: object, key: object = None) -> Markup:
    """Sorted by `key`; cells without one are last."""
    label = column.label
    if isinstance(shown, str) and column.kind == "number":
        shown = with_minus(shown)
    return tag("td", shown, class_=f"{column.kind} {label}", data_label=label, data_sort=key)


def _name(setting: Setting, content: Content) -> Markup:
    row = setting.row
    state = {"aria_expanded": "true", "aria_label": f"Runs of {row.name}"}
    unfold = tag("button", type="button", class_="unfold", **state)
    home = tag("span", "baseline", class_="tag") if row.baseline else None
    model = setting.runs[0].result["model"] if len(content.models) > 1 else None
    data = setting.dataset if len(content.datasets) > 1 else None
    details = " · ".join(filter(None, (model, data)))
    small = tag("small", details) if details else None
    return tag("div", unfold, tag("div", tag("span", row.name, class_="name"), home, small), class_="first")


def _ticks(on: dict[int, str], content: Content) -> Markup:
    """An item for each trick: below the headings or, without headings, with its name."""
    items = (
        tag("li", tag("span", on[place]), class_="on", title=on[place]) if place in on
        else tag("li", class_="off", aria_hidden="true")
        for place in range(len(content.tricks))
    )  # fmt: skip
    return tag("ul", *items, class_="ticks")


def _statuses(status: dict[str, int]) -> Markup:
    marks = [tag("span", f"{n} {name}", class_=f"badge {badge_of(name)}") for name, n in status.items()]
    return tag("span", *marks, class_="badges")
