"""Numbers in the README come from run records, and from nowhere else."""

import json
import re
from pathlib import Path

import pytest

from lib.report.table import read, table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROW = r"^\| `(python train.py .*?)` \| (.*?) \|.*\[.*?\]\((results/.*?)\) \|$"
ROWS = re.findall(ROW, README, re.MULTILINE)


def test_the_readme_has_results():
    assert ROWS


@pytest.mark.parametrize(("command", "accuracy", "folder"), ROWS, ids=lambda value: value)
def test_a_row_of_the_readme_is_what_its_record_says(command, accuracy, folder):
    records = [json.loads(path.read_text()) for path in sorted((ROOT / folder).glob("**/result.json"))]
    assert records
    for record in records:
        assert record["status"] == "ok"
        assert f"python {record['environment']['command']}" == command
        assert "+changes" not in record["environment"]["code"]
    mean = sum(record["test_accuracy"] for record in records) / len(records)
    assert accuracy == f"{mean:.2f} %"


@pytest.mark.parametrize("page", sorted(ROOT.glob("results/ablations/*/README.md")), ids=str)
def test_the_table_of_an_ablation_is_that_of_its_records(page):
    text = page.read_text()
    folder, baseline = re.search(r"`python -m scripts.table (\S+) --baseline (\S+)`", text).groups()
    settings = read(ROOT / folder)
    assert table(settings, baseline) in text
    commits = {record["environment"]["code"] for runs in settings.values() for record in runs.values()}
    assert len(commits) == 1 and "+changes" not in commits.pop()


@pytest.mark.parametrize("path", sorted(ROOT.glob("results/**/result.json")), ids=str)
def test_a_record_says_how_it_came_about(path):
    record = json.loads(path.read_text())
    for key in ("config", "config_diff", "seed", "seconds", "environment", "parameters", "best"):
        assert record[key] is not None
    rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == record["steps"]
    assert rows[-1]["test_accuracy"] == record["test_accuracy"]
