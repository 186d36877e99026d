"""Tables from run records: the runs that count, the names of rows, and comparisons."""

import json
import re

import numpy as np
import pytest

from lib.core.errors import BadInput
from lib.report.records import read_records
from lib.report.summarise import summarise
from scripts.table import main
from tests.helpers import student
from tests.helpers.run_records import write_predictions, write_run, write_runs

NONE, CUTOUT, MIXUP = [80.0, 82.0, 81.5], [83.0, 84.5, 84.0], [80.5, 81.0, 82.5]


@pytest.fixture
def runs(tmp_path):
    for name, accuracies in {"none": NONE, "cutout": CUTOUT, "mixup": MIXUP}.items():
        write_runs(tmp_path, name, accuracies)
    return tmp_path


def table(folder, baseline=None, **asked):
    return summarise(read_records([folder]), baseline, **asked)


def rows(folder, baseline=None, **asked):
    return {row.name: row for row in table(folder, baseline, **asked).rows}


def test_a_row_is_a_setting_over_its_seeds_best_first(runs):
    found = table(runs)
    assert [row.name for row in found.rows] == ["cutout", "mixup", "none"]
    row = found.rows[0]
    assert (row.seeds, row.values, row.status, row.seconds) == ((0, 1, 2), tuple(CUTOUT), {"ok": 3}, 60.0)
    got = row.accuracy
    assert (got.n, got.mean, got.sd) == pytest.approx((3, np.mean(CUTOUT), np.std(CUTOUT, ddof=1)))
    assert (got.low, got.high) == pytest.approx(student.interval(CUTOUT))
    assert row.difference is None and row.flops is None and found.detectable is None


def test_differences_use_welchs_test_and_p_values_holms_correction(runs):
    found = rows(runs, "none")
    known = {"cutout": student.welch(CUTOUT, NONE), "mixup": student.welch(MIXUP, NONE)}
    p = {name: test[2] for name, test in known.items()}
    adjusted = {"cutout": 2 * p["cutout"], "mixup": max(p["mixup"], 2 * p["cutout"])}
    for name, test in known.items():
        got = found[name].difference
        assert (got.low, got.high) == pytest.approx(test[:2])
        assert (got.p, got.p_holm) == pytest.approx((p[name], adjusted[name]))
    assert found["none"].baseline and found["none"].difference is None
    assert found["mixup"].difference.verdict == "no detectable difference"


def test_the_verdict_says_if_a_difference_is_not_significant_after_holm(tmp_path):
    write_runs(tmp_path, "none", [80.0, 80.5, 81.0])
    write_runs(tmp_path, "cutout", [90.0, 90.5, 91.0])
    write_runs(tmp_path, "mixup", [81.4, 81.9, 82.5])
    write_runs(tmp_path, "flip", [80.1, 80.4, 81.1])
    verdicts = {
        name: row.difference.verdict for name, row in rows(tmp_path, "none").items() if not row.baseline
    }
    assert verdicts == {
        "cutout": "better",
        "mixup": "better, but not after Holm",
        "flip": "no detectable difference",
    }


def test_paired_differences_use_the_seeds_that_both_have(runs):
    write_run(runs, "cutout", 7, 20.0)
    got = rows(runs, "none", paired=True)["cutout"].difference
    assert (got.low, got.high, got.p) == pytest.approx(student.paired(CUTOUT, NONE))


def test_a_single_run_has_a_difference_but_no_interval(runs, capsys):
    write_run(runs, "cutmix", 0, 90.0)
    row = rows(runs, "none")["cutmix"]
    assert (row.accuracy.low, row.difference.low, row.difference.p_holm) == (None, None, None)
    assert row.difference.verdict == "no interval"
    main([str(runs), "--baseline", "none"])
    assert "one run: no interval" in capsys.readouterr().out


def test_the_minimal_detectable_effect_is_printed_below_the_table(runs, capsys):
    found = table(runs, "none").detectable
    assert (found.n, found.baseline_n, found.rows) == (3, 3, 2)
    within = [np.var(values, ddof=1) for values in (NONE, CUTOUT, MIXUP)]
    assert found.sd == pytest.approx(np.mean(within) ** 0.5)
    assert found.alone < found.among
    main([str(runs), "--baseline", "none"])
    assert f"80 % power for a true difference of {found.alone:.2f}" in capsys.readouterr().out


def test_the_minimal_effect_of_paired_differences_is_that_of_the_paired_test(runs, capsys):
    found = table(runs, "none", paired=True).detectable
    pairs = [np.subtract(values, NONE) for values in (CUTOUT, MIXUP)]
    assert (found.n, found.rows) == (3, 2)
    assert found.sd == pytest.approx(np.mean([np.var(of, ddof=1) for of in pairs]) ** 0.5)
    main([str(runs), "--baseline", "none", "--paired"])
    out = capsys.readouterr().out
    assert "with 3 pairs of runs" in out and "the paired test has 80 % power" in out and "Welch" not in out


def test_runs_that_did_not_end_well_are_counted_but_not_averaged(runs, capsys):
    write_run(runs, "cutout", 3, None, status="diverged")
    write_run(runs, "cutout", 4, None, status="interrupted")
    write_run(runs, "ricap", 0, None, status="diverged")
    found = rows(runs, "none")
    assert found["cutout"].values == tuple(CUTOUT)
    assert found["cutout"].status == {"ok": 3, "diverged": 1, "interrupted": 1}
    assert found["ricap"].accuracy is None and found["ricap"].difference is None
    main([str(runs), "--baseline", "none"])
    out = capsys.readouterr().out
    assert "3 ok, 1 diverged, 1 interrupted |" in out
    assert "3 records left out of the means" in out and "cutout/seed4: interrupted" in out


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_text("{"), "Expecting property name"),
        (lambda path: path.write_text("[]"), "TypeError"),
        (lambda path: _change(path, format=99), "format 99 is newer"),
        (lambda path: _change(path, test_accuracy=None), "it has no test accuracy"),
        (lambda path: _change(path, test_accuracy=float("nan")), "it has no test accuracy"),
        (lambda path: _change(path, config_diff=[1]), "its 'config_diff' is damaged"),
        (lambda path: _change(path, data={"test": "other"}), "it was tested on other images"),
        (lambda path: _change(path, dataset="cifar100"), "its data set is cifar100"),
        (
            lambda path: _change(path, config=f"{sum(map(ord, 'mixup')):08x}"),
            "seed 0 of this setting is already",
        ),
    ],
)
def test_an_invalid_record_is_left_out_and_listed(tmp_path, damage, why):
    for name, accuracies in {"none": NONE, "mixup": MIXUP}.items():
        write_runs(tmp_path, name, accuracies, data={"test": "these"})
    write_run(tmp_path, "zoom", 0, 99.0)
    damage(tmp_path / "zoom/seed0/result.json")
    found = table(tmp_path, "none")
    assert [row.name for row in found.rows] == ["mixup", "none"]
    assert [row.values for row in found.rows] == [tuple(MIXUP), tuple(NONE)]
    ((where, reason),) = found.left_out
    assert "zoom/seed0" in where and why in reason


def _change(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_of_two_runs_with_one_seed_the_one_that_ended_well_counts(runs):
    write_run(runs / "again", "cutout", 0, 10.0, status="interrupted")  # its path comes first
    found = table(runs)
    assert found.rows[0].values == tuple(CUTOUT) and found.rows[0].status == {"ok": 3}
    assert [why for _, why in found.left_out] == [f"seed 0 of this setting is already in {runs}/cutout/seed0"]


def test_costs_and_published_values_have_columns(runs):
    write_runs(runs, "cutmix", [85.0, 86.0], train_flops=3e15, seconds={"train": 90.0})
    found = table(runs, "none", published={"cutmix": 85.0, "snapmix": 90.0})
    row = {row.name: row for row in found.rows}["cutmix"]
    assert (row.flops, row.seconds, row.published) == (3e15, 90.0, 85.0)
    assert "Published values without a row here: snapmix." in found.notes


def test_best_and_averages_are_columns_on_demand_and_best_is_labelled(runs):
    more = {"ema_test_accuracy": 88.5, "tta_flip_test_accuracy": 89.0, "test_top5": 99.0}
    best = {"epoch": 1, "accuracy": 95.0, "split": "test"}
    write_runs(runs, "cutmix", [85.0, 86.0], best=best, **more)
    found = table(runs, columns=["best", "ema", "tta-flip", "top5"])
    row = found.rows[0]
    assert row.name == "cutmix" and row.accuracy.mean == 85.5
    means = {name: estimate.mean for name, estimate in row.columns.items()}
    assert means == {"best": 95.0, "ema": 88.5, "tta_flip": 89.0, "top5": 99.0}
    assert found.columns["best"] == "best epoch, chosen on the test set"
    assert any("best epoch was chosen on the test set itself" in note for note in found.notes)


def test_ticks_describe_rows_by_tricks_and_values(tmp_path):
    write_runs(tmp_path, "none", NONE)
    write_runs(tmp_path, "both", CUTOUT, config_diff={"augment": {"cutout": {"size": 8}, "flip": False}})
    write_runs(tmp_path, "adam", MIXUP, config_diff={"augment": {"cutout": True}, "optim": {"name": "adamw"}})
    asked = ["cutout", "flip", "optim.name", "cutout-size"]
    found = {name: tuple(row.ticks.values()) for name, row in rows(tmp_path, ticks=asked).items()}
    assert found == {
        "none": ("–", "✓", "sgd", "–"),
        "both": ("✓ size=8", "–", "sgd", "8"),
        "adam": ("✓", "✓", "adamw", "16"),
    }


def test_rows_are_named_by_folder_without_hash_or_by_their_differences(tmp_path):
    write_runs(tmp_path / "a", "none", NONE, config="11111111")
    write_runs(tmp_path / "b", "none", MIXUP, config="22222222", config_diff={"optim": {"lr": 0.2}})
    write_runs(tmp_path, "resnet9-cutout-33333333", CUTOUT, config="33333333")
    assert set(rows(tmp_path)) == {"plain", "optim.lr=0.2", "resnet9-cutout"}
    with pytest.raises(BadInput, match=r"'none' matches 2 settings: 'plain' \(11111111\), 'optim.lr=0.2'"):
        table(tmp_path, "none")
    assert rows(tmp_path, "22222222")["optim.lr=0.2"].baseline


def test_settings_without_recorded_differences_are_distinguished_by_their_hash(tmp_path):
    for place, config in (("a", "11111111"), ("b", "22222222")):
        write_runs(tmp_path / place, "none", NONE, config=config)
    assert set(rows(tmp_path)) == {"plain (11111111)", "plain (22222222)"}


def test_at_equal_compute_the_accuracy_is_interpolated_on_the_curve(tmp_path):
    def curve(*accuracies):
        return [{"epoch": e, "flops": 1e15, "test_accuracy": a} for e, a in enumerate(accuracies, 1) if a]

    write_runs(tmp_path, "none", [80.0, 82.0], rows=curve(60.0, 80.0), train_flops=2e15)
    longer = [{"epoch": e, "flops": 0.8e15} for e in range(1, 6)]
    longer[1]["test_accuracy"], longer[3]["test_accuracy"], longer[4]["test_accuracy"] = 70.0, 78.0, 90.0
    write_runs(tmp_path, "mixup", [90.0, 90.0], rows=longer, train_flops=4e15)
    write_runs(tmp_path, "cutout", [99.0, 99.0])
    found = table(tmp_path, "none", match_compute=True)
    means = {row.name: row.accuracy and row.accuracy.mean for row in found.rows}
    # Two of 4 PFLOP lie a quarter of the way from the second epoch (1.6) to the fourth (3.2).
    assert means == pytest.approx({"none": 80.0, "mixup": 72.0, "cutout": None})
    assert found.headline == "test accuracy after 2 PFLOP of training, %"
    assert sum("has no accuracy at this budget" in why for _, why in found.left_out) == 2
    assert any("before its schedule has annealed" in note for note in found.notes)


def test_two_level_intervals_come_from_the_predictions(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 200)
    for name, chance in (("none", 0.8), ("cutout", 0.9), ("mixup", 0.85)):
        for seed in range(3):
            right = rng.uniform(size=200) < chance
            path = write_run(tmp_path, name, seed, 100 * right.mean())
            if name != "mixup" or seed:
                write_predictions(path, right, y)
    found = table(tmp_path, "none", two_level=True)
    row = {row.name: row for row in found.rows}
    for name in ("none", "cutout"):
        wide, narrow = row[name].two_level, row[name].accuracy
        assert wide.mean == pytest.approx(narrow.mean)
        assert wide.low < wide.mean < wide.high
    difference = row["cutout"].two_level_difference
    assert difference.mean == pytest.approx(row["cutout"].difference.mean)
    assert row["mixup"].two_level is None and row["none"].two_level_difference is None
    assert any(
        re.search(r"Without that interval: mixup \(.*predictions.npz does not exist", n) for n in found.notes
    )


def test_predictions_on_images_in_another_order_are_not_compared(tmp_path):
    y = np.arange(100) % 10
    for name, classes in (("none", y), ("cutout", y[::-1].copy())):
        for seed in range(2):
            path = write_run(tmp_path, name, seed, 80.0 + seed)
            write_predictions(path, np.arange(100) < 80 + seed, classes)
    found = table(tmp_path, "none", two_level=True)
    assert {row.name for row in found.rows if row.two_level} == {"none"}
    assert "cutout (its predictions are for other test images, or in another order)" in found.notes[-1]


def test_predictions_of_other_weights_than_the_record_are_refused(tmp_path):
    y = np.zeros(100, int)
    for seed in range(2):
        write_predictions(write_run(tmp_path, "none", seed, 80.0), np.arange(100) < 90, y)
    with pytest.raises(BadInput, match=r"gives 90.00 %, but the record says 80.00 %"):
        table(tmp_path, two_level=True)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"baseline": "cutuot"}, "there is no row 'cutuot' for the baseline: did you mean cutout?"),
        ({"baseline": "xyz"}, "there is no row 'xyz' for the baseline: the rows are cutout, mixup, none"),
        ({"ticks": ["cutuot"]}, "unknown setting 'cutuot': did you mean cutout"),
        ({"columns": ["bset"]}, "unknown column 'bset': did you mean best"),
        ({"columns": ["ema"]}, "unknown column 'ema'"),
        ({"two_level": True}, r"predictions.npz does not exist"),
        ({"match_compute": True}, "no record has the cost of training"),
        ({"match_compute": True, "two_level": True}, "remove --match-compute"),
    ],
)
def test_unknown_names_and_missing_data_are_refused_with_a_reason(runs, asked, said):
    with pytest.raises(BadInput, match=said):
        table(runs, **asked)


def test_several_data_sets_need_a_baseline_to_choose_one(runs):
    write_runs(runs, "other", [50.0], dataset="cifar100")
    with pytest.raises(BadInput, match="several data sets, cifar10, cifar100"):
        table(runs)
    assert "other" not in rows(runs, "none")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no usable result.json below nowhere"),
        (["runs", "--format", "jsn"], "unknown --format 'jsn': did you mean json?"),
        (["runs", "--published", "lost"], "there is no table 'lost'"),
        (["runs", "--baseline", "nnone"], "there is no row 'nnone' for the baseline: did you mean none?"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    write_runs(tmp_path / "runs", "none", NONE)
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
