"""What stands between markers in the documentation is what its command gives now."""

from pathlib import Path

import pytest

from scripts.docs import __main__ as docs

TABLE = "<!-- python -m scripts.table {folder} --baseline none -->\n{text}<!-- end -->\n"
PLOT = """\
<!-- python -m scripts.plot forest runs --baseline none -o out.svg -->
![it](out.svg)
<!-- end -->
"""
RECORDS = docs.ROOT / "results" / "ablations" / "augmentations"


@pytest.fixture
def page(tmp_path, monkeypatch) -> Path:
    """The README of a repository that has nothing else."""
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    return tmp_path / "README.md"


def test_no_block_of_the_documentation_is_stale(capsys):
    assert docs.main(["--check"]) == 0, capsys.readouterr().out


def test_the_documentation_has_blocks():
    assert any(docs.BLOCK.search(page.read_text()) for page in docs.pages())


def test_a_block_is_renewed_and_all_around_it_stays(page, capsys):
    page.write_text("# Before\n\n" + TABLE.format(folder=RECORDS, text="stale words\n") + "\nbehind\n")
    assert docs.main(["--check"]) == 1
    assert "stale: README.md" in capsys.readouterr().out and "stale words" in page.read_text()
    assert docs.main([]) == 0
    text = page.read_text()
    assert text.startswith("# Before\n") and text.endswith("\nbehind\n")
    assert "stale words" not in text and "cutmix" in text
    assert docs.main(["--check"]) == 0


def test_a_picture_is_stale_when_its_records_change(page, tmp_path):
    record = tmp_path / "runs" / "none" / "seed0" / "result.json"
    for source in RECORDS.glob("**/*.json*"):
        target = tmp_path / "runs" / source.relative_to(RECORDS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    page.write_text(PLOT)
    assert docs.main(["--check"]) == 1
    assert docs.main([]) == 0 and (tmp_path / "out.svg").exists()
    assert docs.main(["--check"]) == 0
    record.write_text(record.read_text().replace("74.13", "75.13"))
    assert docs.main(["--check"]) == 1
    assert docs.main([]) == 0
    (tmp_path / "out.svg").unlink()
    assert docs.main(["--check"]) == 1


def test_a_command_that_fails_is_named_and_nothing_is_written(page, capsys):
    page.write_text(TABLE.format(folder="nowhere", text="stale words"))
    assert docs.main([]) == 2
    assert "nowhere" in capsys.readouterr().err and "stale words" in page.read_text()
