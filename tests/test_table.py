"""Tables from run records, against scipy and hand-made cases."""

import json

import pytest
from scipy import stats

from lib.errors import BadInput
from lib.report.table import interval, read, table


def write(folder, name: str, accuracies: list[float], status: str = "ok") -> None:
    for seed, accuracy in enumerate(accuracies):
        path = folder / name / f"seed{seed}" / "result.json"
        path.parent.mkdir(parents=True)
        record = {"status": status, "seed": seed, "test_accuracy": accuracy, "seconds": {"train": 60.0}}
        path.write_text(json.dumps(record))


def test_the_interval_is_students():
    values = [90.1, 91.4, 90.7, 92.0]
    low, high = stats.t.interval(0.95, 3, loc=91.05, scale=stats.sem(values))
    got = interval(values)
    assert got.mean == pytest.approx(91.05)
    assert (got.mean - got.half, got.mean + got.half) == pytest.approx((low, high))


def test_a_single_run_has_no_interval():
    assert str(interval([91.234])) == "91.23"


def test_differences_are_taken_seed_by_seed(tmp_path):
    write(tmp_path, "none", [80.0, 90.0, 85.0])
    write(tmp_path, "cutout", [81.0, 91.0, 86.0])  # one more each time: no doubt about the difference
    rows = table(read(tmp_path), "none").splitlines()[2:]
    assert rows[0].startswith("| cutout | 3 | 86.00 ± 12.42 | +1.00 ± 0.00 | 60 |")
    assert rows[1].startswith("| none | 3 | 85.00 ± 12.42 |  | 60 |")


@pytest.mark.parametrize(
    ("baseline", "status", "said"),
    [
        ("nothing", "ok", "baseline 'nothing' is none of none"),
        ("none", "diverged", "seed 0: the run is diverged"),
    ],
)
def test_what_a_table_cannot_be_made_of_is_told(tmp_path, baseline, status, said):
    write(tmp_path, "none", [80.0], status)
    with pytest.raises(BadInput, match=said):
        table(read(tmp_path), baseline)


def test_a_folder_without_records_and_a_damaged_record_are_told(tmp_path):
    with pytest.raises(BadInput, match=r"there is no result\.json below"):
        read(tmp_path)
    write(tmp_path, "none", [80.0])
    (tmp_path / "none/seed0/result.json").write_text("{")
    with pytest.raises(BadInput, match="is no run record"):
        read(tmp_path)
