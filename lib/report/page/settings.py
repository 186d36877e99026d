"""The table of settings: a body for each, whose first row is the setting and whose others are its runs."""

from urllib.parse import quote

from lib.report.page.content import Content, Setting
from lib.report.page.markup import Markup, join, tag
from lib.report.page.words import NONE, accuracy, between, compute, duration, number, p_value, signed
from lib.report.records import RunRecord

MANY = 12  # tricks that stand as columns of ticks; of more than that, each row has the names of its own

# Label, kind, the way that is sorted first, and what stands small beside the label.
COLUMNS = (
    ("setting", "text", "ascending", ""),
    ("tricks", "text", "ascending", ""),
    ("n", "number", "descending", ""),
    ("accuracy", "number", "descending", "%, mean ± sd"),
    ("interval", "number", "descending", "95 %"),
    ("difference", "number", "descending", "95 % interval"),
    ("p", "number", "ascending", "Holm"),
    ("time", "number", "ascending", "a run"),
    ("PFLOP", "number", "ascending", "a run"),
    ("status", "text", "ascending", ""),
)
FIRST = 3  # sorted by this column at first


def settings_table(content: Content) -> Markup:
    named = 0 < len(content.tricks) <= MANY
    heads = [
        _head(place, *column, content.labels if named and column[0] == "tricks" else [])
        for place, column in enumerate(COLUMNS)
    ]
    return tag(
        "table",
        tag("caption", "Settings, each with its runs", class_="unseen"),
        tag("thead", tag("tr", *heads)),
        *(_body(place, setting, content) for place, setting in enumerate(content.settings)),
        class_="matrix" if named else "chips",
    )


def sort_options() -> list[Markup]:
    """What to sort by where the window is too narrow for headings."""
    told = {"text": ("A to Z", "Z to A"), "number": ("least first", "greatest first")}
    return [
        tag(
            "option",
            f"{label}: {words}",
            value=f"{place} {way}",
            selected=place == FIRST and way == first,
        )
        for place, (label, kind, first, _) in enumerate(COLUMNS)
        for way, words in zip(("ascending", "descending"), told[kind], strict=True)
    ]


def difference_text(gap) -> str:
    """`−1.59 (−3.13 to −0.05)`."""
    return signed(gap.mean) + ("" if gap.low is None else f" ({between(gap.low, gap.high, signed)})")


def badge_of(status: str) -> str:
    return {"ok": "ok", "diverged": "bad"}.get(status, "stopped")


def _head(place: int, label: str, kind: str, first: str, note: str, tricks: list[str]) -> Markup:
    names = [tag("li", tag("span", name)) for name in tricks]
    return tag(
        "th",
        tag("ul", *names, class_="ticks", aria_hidden="true") if names else None,
        tag("button", label, tag("small", note) if note else None, type="button"),
        scope="col",
        class_=kind,
        data_kind=kind,
        data_first=first,
        aria_sort=first if place == FIRST else None,
    )


def _body(place: int, setting: Setting, content: Content) -> Markup:
    row, on = setting.row, content.on(setting)
    mean, gap = row.accuracy, row.difference
    cells = (
        (_name(setting, content), row.name),
        (_ticks(on, content), ", ".join(on.values())),
        (mean.n if mean else 0, mean.n if mean else 0),
        (accuracy(mean.mean, mean.sd) if mean else NONE, mean and mean.mean),
        (between(mean.low, mean.high) if mean else NONE, mean and mean.low),
        (difference_text(gap) if gap else NONE, gap and gap.mean),
        (p_value(gap.p_holm) if gap else NONE, gap and gap.p_holm),
        (duration(row.seconds), row.seconds),
        (compute(row.flops), row.flops),
        (_statuses(row.status), ", ".join(row.status)),
    )
    return tag(
        "tbody",
        _row("setting", [(shown, "" if key is None else key) for shown, key in cells]),
        *(_run(run, content) for run in setting.runs),
        id=f"setting-{place}",
        class_="baseline" if row.baseline else None,
        data_setting=place,
        data_text=setting.text,
        data_tricks=" ".join(map(str, on)),
        data_status=" ".join(str(content.statuses.index(status)) for status in row.status),
        data_dataset=content.datasets.index(setting.dataset),
    )


def _run(run: RunRecord, content: Content) -> Markup:
    name = content.names[run.folder]
    seconds = run.result.get("seconds")
    link = tag("a", f"seed {run.seed}", class_="run", href=f"#run={quote(name, safe='')}", data_run=name)
    why = dict(content.left_out).get(str(run.folder))
    shown = {
        "setting": join(link, tag("small", why, class_="why") if why else None),
        "accuracy": number(run.result.get("test_accuracy")),
        "time": duration(seconds.get("train") if isinstance(seconds, dict) else None),
        "PFLOP": compute(run.result.get("train_flops")),
        "status": tag("span", run.status, class_=f"badge {badge_of(run.status)}"),
    }
    return _row("run", [(shown.get(label), None) for label, *_ in COLUMNS])


def _row(kind: str, cells: list[tuple[object, object]]) -> Markup:
    columns = zip(COLUMNS, cells, strict=True)
    return tag(
        "tr",
        *(
            tag("td", shown, class_=f"{column[1]} {column[0]}", data_label=column[0], data_sort=key)
            for column, (shown, key) in columns
        ),
        class_=kind,
    )


def _name(setting: Setting, content: Content) -> Markup:
    row = setting.row
    unfold = tag(
        "button", type="button", class_="unfold", aria_expanded="true", aria_label=f"Runs of {row.name}"
    )
    home = tag("span", "baseline", class_="tag") if row.baseline else None
    model = setting.runs[0].result["model"] if len(content.models) > 1 else None
    data = setting.dataset if len(content.datasets) > 1 else None
    told = " · ".join(filter(None, (model, data)))
    small = tag("small", told) if told else None
    return tag("div", unfold, tag("div", tag("span", row.name, class_="name"), home, small), class_="first")


def _ticks(on: dict[int, str], content: Content) -> Markup:
    """An item for each trick: so they stand below the headings, or where there are none, as names."""
    items = (
        tag("li", tag("span", on[place]), class_="on", title=on[place]) if place in on
        else tag("li", class_="off", aria_hidden="true")
        for place in range(len(content.tricks))
    )  # fmt: skip
    return tag("ul", *items, class_="ticks")


def _statuses(status: dict[str, int]) -> Markup:
    marks = [tag("span", f"{n} {name}", class_=f"badge {badge_of(name)}") for name, n in status.items()]
    return tag("span", *marks, class_="badges")
