"""Numbers in the README come from run records."""

import json
import re
from pathlib import Path
from statistics import fmean

import pytest

from lib.report.records import read_records

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CELLS = r"(.*?) \| (.*?) \| (\d+) \| (\d+) min"  # the accuracy, that by views, runs, and their time
ROW = rf"^\| `(python train.py .*?)` \| {CELLS} \|.*\[.*?\]\((results/.*?)\) \|$"
ROWS = re.findall(ROW, README, re.MULTILINE)


def test_the_readme_has_results():
    assert len(ROWS) == README.count("\n| `python train.py ")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_of_the_readme_has_the_numbers_of_its_records(row):
    command, accuracy, with_views, runs, minutes, folder = row
    records = [json.loads(path.read_text()) for path in sorted((ROOT / folder).glob("**/result.json"))]
    for record in records:
        assert record["status"] == "ok"
        assert f"python {record['environment']['command']}" == command
        assert "+changes" not in record["environment"]["code"]

    def mean(key: str) -> str:
        return f"{fmean(record[key] for record in records):.2f} %"

    views = records[0]["config_diff"].get("views", {})
    assert accuracy == mean("test_accuracy")
    assert with_views == ("".join(mean(f"{view}_test_accuracy") for view in views) or "–")
    assert int(runs) == len(records)
    assert int(minutes) == round(fmean(record["seconds"]["train"] for record in records) / 60)


@pytest.mark.parametrize("folder", sorted(ROOT.glob("results/ablations/*/")), ids=str)
def test_the_runs_of_an_ablation_use_one_version_of_the_code(folder):
    records = read_records([folder])
    assert not records.left_out
    commits = {run.result["environment"]["code"] for run in records.runs}
    assert len(commits) == 1 and "+changes" not in commits.pop()


@pytest.mark.parametrize("path", sorted(ROOT.glob("results/**/result.json")), ids=str)
def test_a_record_contains_its_configuration_and_environment(path):
    record = json.loads(path.read_text())
    for key in ("config", "config_diff", "seed", "seconds", "environment", "parameters", "best"):
        assert record[key] is not None
    rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == record["steps"]
    assert rows[-1]["test_accuracy"] == record["test_accuracy"]
