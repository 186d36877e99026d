"""Published results agree with the grids that reproduce them, and verdicts with the prediction interval."""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.config.cli import parse
from lib.config.schema import to_yaml
from lib.core.errors import BadInput
from lib.core.registry import models
from lib.grid.catalogue import GRIDS, find_grid, grid_names
from lib.grid.scale import scaled
from lib.grid.spec import read_grid
from lib.report.published import PublishedResult, accuracies, read_published
from lib.report.records import read_records
from lib.report.reproduce import Comparison, comparison_of, complete_runs, report
from scripts.reproduce import reproduced

ROOT = Path(__file__).parent.parent
TABLES = read_published()
RESULTS = {result.id: result for table in TABLES.values() for result in table.rows}
MIXED = {"mixed": "fp16", "fp16": "fp16", None: "fp32"}  # arithmetic in fp16; of ours, weights in fp32


@pytest.fixture(scope="module")
def grids():
    return {name: read_grid(GRIDS / f"{name}.yaml") for name in grid_names()}


@pytest.fixture(scope="module")
def rows(grids):
    """The rows of all grids that reproduce a published row."""
    return [row for grid in grids.values() for row in grid.rows if row.published]


def test_a_row_of_a_grid_is_compared_with_one_published_row_of_its_own_table(grids):
    for name, grid in grids.items():
        ids = [row.published for row in grid.rows if row.published]
        assert len(set(ids)) == len(ids)
        assert {id.split("/")[0] for id in ids} <= {name}
        assert set(ids) <= set(RESULTS)


def test_every_published_row_is_in_a_grid_or_has_a_reason_why_not(rows):
    run = {row.published for row in rows}
    for result in RESULTS.values():
        assert (result.id in run) + bool(result.cannot) + bool(result.same_as) == 1, result.id


def test_ids_are_unique_and_a_repeated_row_has_no_value():
    assert len(RESULTS) == sum(len(table.rows) for table in TABLES.values())
    for result in RESULTS.values():
        assert not result.same_as or (result.value is None and RESULTS[result.same_as].value is not None)


def test_a_row_of_a_grid_has_the_published_configuration(rows):
    for row in rows:
        result, config = RESULTS[row.published], row.config
        optim, model = config.chosen["optim"].options, config.chosen["model"]
        ours = {
            "model": model.entry.name,
            "options": {key: model.options[key] for key in result.options or {}} or None,
            "data": config.chosen["data"].entry.name,
            "epochs": config.train.epochs,
            "batch": config.train.batch_size,
            "lr": optim["lr"],
            "decay": optim["weight_decay"],
            "precision": config.train.precision,
        }
        theirs = {key: getattr(result, key) for key in ours}
        theirs["model"], theirs["precision"] = models[result.model].name, MIXED[result.precision]
        if ours["options"] and "preact_stage" in ours["options"]:
            ours["options"]["preact_stage"] = list(ours["options"]["preact_stage"])
        known = {key: value for key, value in theirs.items() if value is not None}
        assert {key: ours[key] for key in known} == known, row.published
        assert set(config.tricks["views"]) == ({result.views} if result.views else set())


def test_a_row_of_a_grid_uses_exactly_the_tricks_of_the_published_setting(rows):
    """Compare the words of the setting with the tricks that are on; tricks of all rows may be omitted."""
    words = {
        "cutout": "cutout",
        "dual cutout": "dual_cutout",
        "mixup": "mixup",
        "ricap": "ricap",
        "random erasing": "random_erasing",
        "autoaugment": "autoaugment",
        "label smoothing": "label_smoothing",
        "sam": "sam",
        "asam": "asam",
        "ghost batchnorm": "ghost_batchnorm",
    }
    by_table: dict[str, list[tuple[set[str], set[str]]]] = {}
    for row in rows:
        said = RESULTS[row.published].setting.lower().split(", ")
        named = {words[part.rstrip("0123456789. ")] for part in said if part.rstrip("0123456789. ") in words}
        sections = ("augment", "wrap", "surgery")
        on = {trick for section in sections for trick in row.config.tricks[section]} & set(words.values())
        by_table.setdefault(row.published.split("/")[0], []).append((named, on))
    for table, pairs in by_table.items():
        shared = set.intersection(*(on for _, on in pairs)) if len(pairs) > 1 else set()
        if table != "hysts_multigpu":  # parts of the batch replace its GPUs
            assert all(named <= on and on - named <= shared for named, on in pairs), table


def test_a_trial_of_every_row_composes_and_its_schedule_fits_the_shorter_budget(grids):
    from lib.factory import build_schedule

    for grid in grids.values():
        for row in grid.rows[::4]:  # neighbours differ in one setting
            config = row.override("--scale", scaled(row.config, 0.05)).config
            assert math.isfinite(build_schedule(config)(config.train.epochs / 2, config.train.epochs))


def test_an_error_becomes_an_accuracy():
    assert PublishedResult("a/1", "", "test error, %", "lenet", value=7.29).accuracy == 92.71
    assert PublishedResult("a/1", "", "test accuracy, %", "lenet", value=92.71).accuracy == 92.71
    assert PublishedResult("a/1", "", "seconds an epoch", "lenet", value=7.29).accuracy is None


def test_an_unknown_key_of_the_published_file_is_refused(tmp_path):
    file = tmp_path / "published.yaml"
    file.write_text(
        "t: {title: a, source: b, metric: c, rows: [{id: t/1, setting: d, model: e, valeu: 3}]}\n"
    )
    with pytest.raises(BadInput, match="t/1: unknown key 'valeu'"):
        read_published(file)


def published(
    accuracy: float, n: int = 1, statistic: str = "single", at: str = "last", **more
) -> PublishedResult:
    more |= {"n": n, "statistic": statistic, "at": at}
    return PublishedResult("t/1", "", "test accuracy, %", "lenet", value=accuracy, **more)


def verdict(result: PublishedResult | None, *accuracies: float, diverged: int = 0) -> str:
    return Comparison("row", "command", result, accuracies, diverged).verdict


def test_a_verdict_follows_from_the_prediction_interval():
    ours = (92.0, 93.0, 94.0)  # standard deviation 1; t of two degrees of freedom is 4.3027
    for result, half in (
        ((1, "single"), 4.3027 * math.sqrt(1 / 3 + 1)),
        ((4, "mean"), 4.3027 * math.sqrt(1 / 3 + 1 / 4)),
        ((3, "median"), 4.3027 * math.sqrt(1 / 3 + math.pi / 6)),
    ):
        for sign in (-1, 1):
            assert verdict(published(93 + sign * (half + 0.004), *result), *ours) == "consistent"
            assert verdict(published(93 + sign * (half + 0.006), *result), *ours) == "differs"


def test_a_verdict_says_why_nothing_can_be_compared():
    assert verdict(published(93)) == "not run"
    assert verdict(None) == "not run"
    assert verdict(published(93), 93.0) == "undecided"
    assert verdict(published(93), 93.0, 93.0) == "undecided"
    assert verdict(None, 93.0, 93.1) == "nothing published"
    assert verdict(PublishedResult("t/1", "", "test error, %", "lenet"), 93.0) == "nothing published"
    assert verdict(published(93), 92.9, 93.1, diverged=1) == "differs"
    assert verdict(published(93), diverged=2) == "differs"


@pytest.mark.parametrize(("m", "statistic"), [(1, "single"), (3, "median"), (5, "mean")])
def test_of_numbers_from_the_same_distribution_one_in_twenty_differs(m, statistic):
    draws = np.random.default_rng(0).normal(93, 0.3, (2000, 3 + m))
    reduce = statistics.median if statistic == "median" else statistics.fmean
    verdicts = [verdict(published(reduce(theirs), m, statistic), *ours) for *ours, theirs in _split(draws)]
    assert 0.94 < verdicts.count("consistent") / len(verdicts) < 0.975


def _split(draws):
    return [(*row[:3], row[3:].tolist()) for row in draws]


def record(folder: Path, row, seed: int, accuracy: float, words: str = "", **more) -> None:
    """A run's folder, as far as it is read."""
    config = parse([*row.arguments, "--seed", str(seed), *words.split()]).config()
    result = {"format": 1, "status": "ok", "seed": seed, "config": config.digest(), "steps": 1}
    result |= {"config_diff": config.changed, "dataset": "cifar10", "model": "m", "environment": {}}
    result |= {"test_accuracy": accuracy, "best": {"accuracy": accuracy + 0.5, "split": "test", "epoch": 1}}
    folder = folder / f"{row.name}{words}" / f"seed{seed}"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result | more))
    (folder / "config.yaml").write_text(to_yaml(config.tree()))


def compared(tmp_path: Path, row, at: str = "last") -> Comparison:
    runs = complete_runs(read_records([tmp_path]).runs)
    return comparison_of(row.name, "run", row.config, published(93, at=at), runs)


def test_a_row_counts_the_complete_runs_of_its_setting(tmp_path, grids):
    row, other = grids["pprp_aug_grid"].rows[:2]
    record(tmp_path, row, 0, 93.0)
    record(tmp_path, row, 1, 93.2)
    record(tmp_path, row, 2, 10.0, status="diverged")
    record(tmp_path, row, 3, 50.0, status="interrupted")
    record(tmp_path / "zzz", row, 0, 60.0, status="interrupted")  # the same seed again, elsewhere
    record(tmp_path, row, 4, 93.4, config="0" * 8)  # a field has been added since
    record(tmp_path, row, 5, 20.0, words="--lr 0.2")
    record(tmp_path, other, 0, 30.0)
    found = compared(tmp_path, row)
    assert sorted(found.accuracies) == [93.0, 93.2, 93.4]
    assert found.diverged == 1
    assert found.ours.startswith("93.20 ± 0.50 (n = 3, 1 diverged")


def test_a_best_epoch_is_compared_with_best_epochs_on_the_test_set(tmp_path, grids):
    row = grids["pprp_aug_grid"].rows[0]
    record(tmp_path, row, 0, 93.0)
    record(tmp_path, row, 1, 93.2, best={"accuracy": 99.0, "split": "val", "epoch": 1})
    assert compared(tmp_path, row, at="best").accuracies == (93.5,)
    assert compared(tmp_path, row).accuracies == (93.0, 93.2)


def test_a_number_with_test_time_augmentation_is_compared_with_the_same_augmentation(tmp_path, grids):
    row = next(row for row in grids["airbench_speed"].rows if row.name == "airbench94")
    record(tmp_path, row, 0, 93.2, tta_shifts_test_accuracy=93.9)
    record(tmp_path, row, 1, 93.3, tta_shifts_test_accuracy=94.1)
    text = reproduced("airbench_speed", [tmp_path])
    assert "| airbench94 | 94.01 (mean of 1000), tta_shifts | 94.00 ± 1.27 (n = 2) | consistent |" in text
    assert not accuracies((row.name, row.published) for row in grids["airbench_speed"].rows)


def test_the_report_has_every_row_with_its_command_and_marks_doubtful_numbers(tmp_path, grids):
    name = "hysts_residual_units"  # its last row alone is in doubt
    for row, ours in zip(grids[name].rows[:2], ((93.4, 93.5, 93.6), (80.4, 80.5, 80.6)), strict=True):
        for seed, accuracy in enumerate(ours):
            record(tmp_path, row, seed, accuracy)
    text = reproduced(name, [tmp_path])
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("| ")}
    for row in grids[name].rows:
        assert f"`scripts/run.sh {name} --only {row.name}`" in lines[row.name]
    first, second, *_, last = (lines[row.name] for row in grids[name].rows)
    assert "| 93.55 (median of 5) | 93.50 ± 0.25 (n = 3) | consistent |" in first
    assert "| differs |" in second
    assert "| mixup-300 * | 94.89 (median of 5) | - | not run |" in last
    assert "\\* mixup-300: milestones for 300 epochs are not stated" in text


def test_an_unknown_table_gets_a_suggestion_and_a_grid_without_publication_a_reason():
    with pytest.raises(BadInput, match=r"no table 'pprp_aug_gird': did you mean pprp_aug_grid"):
        find_grid("pprp_aug_gird")
    own = next(name for name in grid_names() if name not in TABLES)
    with pytest.raises(BadInput, match="nothing published for"):
        reproduced(own, [])


def test_a_report_without_runs_lists_the_commands(grids):
    row = grids["pprp_aug_grid"].rows[0]
    text = report([Comparison(row.name, "the command", published(93, contaminated="why"), ())])
    assert "| plain * | 93.00 | - | not run | `the command` |" in text
    assert text.endswith("\\* plain: why")


def test_reproduce_does_not_import_torch():
    code = (
        "import scripts.reproduce as r, sys; r.reproduced('pprp_vit', []); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


SIZED = [row for row in RESULTS.values() if "weights in MiB" in (row.also or {})]


@pytest.mark.parametrize("row", SIZED, ids=lambda row: row.id)
def test_a_published_row_of_a_network_of_another_size_says_so(row):
    """Its accuracy is not that of our network of this name, so a difference is no failed reproduction."""
    with torch.device("meta"):
        weights = models[row.model].build().state_dict().values()
    size = sum(tensor.nbytes for tensor in weights) / 2**20
    same = size == pytest.approx(row.also["weights in MiB"], rel=0.005)
    note = row.contaminated or ""
    assert same != ("another network" in note or "weights file" in note)
