"""The generated parts of the documentation, and how they are renewed."""

import json
from pathlib import Path

import pytest

from scripts.docs import __main__ as docs
from scripts.docs import blocks, reliability
from scripts.docs.page import ROOT, is_current

TABLE = "<!-- python -m scripts.table {folder} --baseline none -->\n{text}<!-- end -->\n"
PLOT = """\
<!-- python -m scripts.plot forest runs --baseline none -o out.svg -->
![it](out.svg)
<!-- end -->
"""
RECORDS = ROOT / "results" / "ablations" / "augmentations"


@pytest.fixture
def readme(tmp_path) -> Path:
    return tmp_path / "README.md"


def renew(root: Path) -> bool:
    """Write the pages that are out of date; returns whether there were any."""
    found = list(blocks.outdated(root, write=True))
    for page, text in found:
        page.write_text(text)
    return bool(found)


def is_old(root: Path) -> bool:
    return any(True for _ in blocks.outdated(root, write=False))


def test_the_documentation_has_blocks():
    assert any(blocks.BLOCK.search(page.read_text()) for page in blocks.pages(ROOT))


def test_a_block_is_renewed_and_the_text_around_it_is_kept(readme, tmp_path):
    readme.write_text("# Before\n\n" + TABLE.format(folder=RECORDS, text="stale words\n") + "\nafter\n")
    assert is_old(tmp_path)
    assert "stale words" in readme.read_text()
    assert renew(tmp_path)
    text = readme.read_text()
    assert text.startswith("# Before\n") and text.endswith("\nafter\n")
    assert "stale words" not in text and "cutmix" in text
    assert not is_old(tmp_path)


def test_a_plot_is_out_of_date_when_its_records_change_or_its_file_is_missing(readme, tmp_path):
    record = tmp_path / "runs" / "none" / "seed0" / "result.json"
    for source in RECORDS.glob("**/*.json*"):
        target = tmp_path / "runs" / source.relative_to(RECORDS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    readme.write_text(PLOT)
    assert is_old(tmp_path)
    assert renew(tmp_path) and (tmp_path / "out.svg").exists()
    assert not is_old(tmp_path)
    record.write_text(record.read_text().replace("74.13", "75.13"))
    assert is_old(tmp_path)
    assert renew(tmp_path) and not is_old(tmp_path)
    (tmp_path / "out.svg").unlink()
    assert is_old(tmp_path)


def test_a_command_that_fails_is_named(readme, tmp_path, monkeypatch, capsys):
    readme.write_text(TABLE.format(folder="nowhere", text="stale words"))
    monkeypatch.setattr(docs, "outdated", lambda everything, write: blocks.outdated(tmp_path, write))
    assert docs.main([]) == 2
    assert "nowhere" in capsys.readouterr().err and "stale words" in readme.read_text()


def test_a_check_names_what_is_out_of_date_and_writes_nothing(monkeypatch, capsys):
    path = ROOT / "docs" / "new.md"
    monkeypatch.setattr(docs, "outdated", lambda everything, write: [(path, "new text")])
    assert docs.main(["--check"]) == 1
    assert "out of date: docs/new.md" in capsys.readouterr().out
    assert not path.exists()


def test_the_newest_trials_of_each_test_are_summed_over_its_parameters(tmp_path, capsys):
    record = tmp_path / "record.jsonl"
    ends = [("a.py::test_it_ends[x]", {"done": 9}), ("a.py::test_it_ends[x]", {"done": 1, "refused": 1000})]
    ends += [("a.py::test_it_ends[y]", {"done": 2}), ("b.py::test_it_stops", {"refused": 5})]
    record.write_text("".join(json.dumps({"test": test, "endings": by}) + "\n" for test, by in ends))
    assert reliability.main([str(record)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| it ends | 1,003 | refused: 1,000, done: 3 |",
        "| it stops | 5 | refused: 5 |",
    ]


def test_figures_are_compared_by_pixels(tmp_path):
    (figure,) = RECORDS.parents[2].glob("docs/augmentations/cutout.png")
    png = figure.read_bytes()
    copy = tmp_path / "copy.png"
    assert not is_current(copy, png)
    copy.write_bytes(png)
    assert is_current(copy, png)
    assert not is_current(copy, (figure.with_name("mixup.png")).read_bytes())
