"""Tables as text: formats for programs can be read back, and formats for readers are escaped."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from lib.core.errors import BadInput
from lib.report.records import read_records
from lib.report.render import FOR_PROGRAMS, FORMATS, cells, render
from lib.report.summarise import summarise
from scripts.table import main
from tests.helpers.run_records import write_run, write_runs

ODD = "a|b&c_<i>50%"  # a possible name of a folder


@pytest.fixture
def table(tmp_path):
    write_runs(tmp_path, "none", [80.0, 82.0, 81.0])
    write_runs(tmp_path, "cutout", [82.0, 83.5], train_flops=2.5e15, seconds={"train": 1234.5})
    write_runs(tmp_path, ODD, [70.0], config_diff={"augment": {"mixup": True}})
    write_run(tmp_path, ODD, 1, None, status="diverged")
    asked = {"columns": ["best"], "published": {"cutout": 84.0}}
    return summarise(read_records([tmp_path]), "none", ["cutout"], **asked)


def test_json_contains_all_numbers(table):
    read = json.loads(render(table, "json"))
    assert [row["name"] for row in read["rows"]] == ["cutout", "none", ODD]
    first = read["rows"][0]
    assert first["values"] == [82.0, 83.5] and first["flops"] == 2.5e15 and first["published"] == 84.0
    assert first["difference"]["p_holm"] == table.rows[0].difference.p_holm
    assert read["rows"][2]["accuracy"]["low"] is None
    assert read["rows"][2]["status"] == {"ok": 1, "diverged": 1}
    assert len(read["left_out"]) == 1 and read["notes"]


def test_csv_contains_all_numbers_and_empty_fields_for_none(table):
    read = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [row["setting"] for row in read] == ["cutout", "none", ODD]
    assert float(read[0]["difference_low"]) == table.rows[0].difference.low
    assert float(read[0]["best_mean"]) == 82.75
    assert (read[2]["low"], read[2]["p_holm"], read[1]["difference"]) == ("", "", "")
    assert read[2]["runs"] == "1 ok, 1 diverged"


def test_every_line_of_markdown_has_as_many_cells_as_the_header(table):
    lines = [line for line in render(table, "md").splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert len(lines) == 2 + 3
    assert lines[2].startswith("| cutout | ✓ | 2 | 82.75 ± 1.06 |")
    assert "| 1,234 | 2.5 | 84.00 | -1.25 | 2 ok |" in lines[2]
    assert "| one run: no interval |" in lines[4] and "a\\|b&c_<i>50%" in lines[4]


def test_html_contains_the_cells_and_no_other_tags(table):
    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags, self.rows = set(), []

        def handle_starttag(self, tag, attrs):
            self.tags.add(tag)
            if tag == "tr":
                self.rows.append([])
            if tag in ("td", "th"):
                self.rows[-1].append("")

        def handle_data(self, data):
            if self.lasttag in ("td", "th") and data.strip():
                self.rows[-1][-1] += data

    reader = Reader()
    reader.feed(render(table, "html"))
    assert reader.rows == cells(table)
    assert reader.tags == {"table", "thead", "tbody", "tr", "th", "td", "ul", "li"}


def test_latex_escapes_special_characters(table):
    text = render(table, "latex")
    assert r"a|b\&c\_\textless{}i\textgreater{}50\%" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    columns = re.search(r"\{(l+)\}", text)[1]
    assert all(len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1 for line in body)
    assert all(line.endswith(r" \\") for line in body)
    # What is not plain text is a macro.
    assert not re.search(r"(?<!\\)[%#_]", text) and text.isascii()


def test_ticks_replace_names_if_they_distinguish_the_rows(tmp_path):
    for name in ("none", "cutout"):
        write_runs(tmp_path, name, [80.0, 81.0])
    header = cells(summarise(read_records([tmp_path]), ticks=["cutout"]))[0]
    assert header[:2] == ["cutout", "n"]
    write_runs(tmp_path, "mixup", [80.0, 81.0])
    header = cells(summarise(read_records([tmp_path]), ticks=["cutout"]))[0]
    assert header[:3] == ["setting", "cutout", "n"]


def test_every_column_can_be_dropped_alone_and_the_others_stay(table):
    header, *rows = cells(table)
    with pytest.raises(BadInput, match="there is no such column; there are ") as refused:
        cells(table, ["qqq"])
    names = str(refused.value).partition("there are ")[2].split(", ")
    assert len(names) == len(header) and "best" in names
    for place, name in enumerate(names):
        expected = [line[:place] + line[place + 1 :] for line in (header, *rows)]
        assert cells(table, [name]) == expected
    with pytest.raises(BadInput, match="leaves no column"):
        cells(table, names)


@pytest.mark.parametrize("form", FORMATS)
def test_columns_are_dropped_for_readers_and_left_to_programs(tmp_path, capsys, form):
    write_runs(tmp_path, "none", [80.0, 81.0])
    code = main([str(tmp_path), "--format", form, "--drop", "flops,runs"])
    said = capsys.readouterr()
    assert code == (2 if form in FOR_PROGRAMS else 0)
    assert "PFLOP" not in said.out and ("--drop" in said.err) == (form in FOR_PROGRAMS)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_printed_and_csv_has_its_notes_on_standard_error(tmp_path, capsys, form):
    write_runs(tmp_path, "none", [80.0, 81.0])
    write_run(tmp_path, "cutout", 0, None, status="diverged")
    assert main([str(tmp_path), "--format", form, "--baseline", "none"]) == 0
    said = capsys.readouterr()
    assert "diverged" in said.out
    assert ("1 record left out of the means" in said.err) == (form == "csv")
