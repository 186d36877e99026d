"""Plots of records: what is drawn is read back from the drawing and compared with an oracle."""

import io
import json
import math
import statistics
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from lib.core.errors import BadInput
from lib.report.plots import compute, confusion, curves, forest, learning_rate
from lib.report.plots.epochs import settings_of
from lib.report.records import read_records
from lib.report.style import encode, styled
from lib.report.summarise import summarise
from scripts.plot import KINDS, main
from tests.helpers import student

# Accuracies by seed; not sorted, and of unlike spread.
NONE, CUTOUT, MIXUP = [90.0, 91.0, 90.4], [91.5, 93.5, 92.4], [90.2, 90.9, 90.7]
LONG = "knowledge_distillation_of_a_wide_teacher+label_smoothing+exponential_moving_average"


def write(folder: Path, name: str, accuracies: list[float], **more) -> None:
    """A record a seed: three epochs, evaluated at the second and the last."""
    for seed, accuracy in enumerate(accuracies):
        run = folder / name / f"seed{seed}"
        run.mkdir(parents=True)
        rows = [
            {"epoch": 1, "step": 4, "lr": 0.2, "train_loss": 2.0 + seed},
            {"epoch": 2, "step": 8, "lr": 0.1, "train_loss": 1.0 + seed, "test_accuracy": accuracy - 10},
            {"epoch": 3, "step": 12, "lr": 0.0, "train_loss": 0.5 + seed, "test_accuracy": accuracy},
        ]
        result = {
            "format": 1, "status": "ok", "dataset": "cifar10", "model": "resnet9", "seed": seed, "steps": 12,
            "config": name[-8:], "config_diff": {"augment": {name: True}}, "environment": {"code": "a1b2"},
            "seconds": {"train": 60.0}, "test_accuracy": accuracy, "train_flops": 3e15,
        } | more  # fmt: skip
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (run / "result.json").write_text(json.dumps(result))


@pytest.fixture
def runs(tmp_path) -> Path:
    write(tmp_path / "runs", "none", NONE)
    write(tmp_path / "runs", "cutout", CUTOUT, train_flops=4e15)
    write(tmp_path / "runs", "mixup", MIXUP, train_flops=4.5e15)
    logits = np.zeros((10, 3), np.float32)
    guesses = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    logits[range(10), guesses] = 1
    seed0 = tmp_path / "runs/none/seed0"
    np.savez(seed0 / "predictions.npz", logits=logits, y=np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2]))
    (seed0 / "evaluation.json").write_text(json.dumps({"classes": ["cat", "dog", "$hip$"]}))
    return tmp_path / "runs"


def table_of(folder, **options):
    return summarise(read_records([folder]), **options)


def settings(folder):
    return settings_of(read_records([folder]), table_of(folder))[0]


def lines(panel, label: str):
    return next(line for line in panel.lines if line.get_label() == label)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_plot_is_reproducible_as_png_and_svg(kind, runs, tmp_path, capsys):
    from matplotlib import rc_context, rcParams

    folder = runs / "none/seed0" if kind == "confusion" else runs
    baseline = ["--baseline", "none"] if kind in ("curves", "forest", "compute") else []
    files = []
    for name, own in (("a.png", {}), ("b.svg", {}), ("c.svg", {"font.size": 30, "axes.grid": False})):
        with rc_context(own):
            before = dict(rcParams)
            assert main([kind, str(folder), *baseline, "-o", str(tmp_path / name)]) == 0
            assert dict(rcParams) == before
        files.append((tmp_path / name).read_bytes())
    assert capsys.readouterr().out.startswith("figure: ")
    with Image.open(io.BytesIO(files[0])) as image:
        assert image.format == "PNG" and image.width > 800 and not image.text
    assert ElementTree.fromstring(files[1]).tag.endswith("svg")
    if kind == "forest":  # the pages of a paper
        for _ in range(2):
            assert main([kind, str(folder), *baseline, "-o", str(tmp_path / "d.pdf")]) == 0
            files.append((tmp_path / "d.pdf").read_bytes())
        assert files[3] == files[4] and files[3].startswith(b"%PDF") and b"CreationDate" not in files[3]
    assert files[1] == files[2] and b"date>" not in files[1] and b"Matplotlib v" not in files[1]


def test_a_png_is_reproducible(runs):
    table = table_of(runs, baseline="none")
    assert encode(forest.draw(table)) == encode(forest.draw(table))


def test_curves_are_the_means_of_the_seeds_and_bands_reach_from_the_lowest_to_the_highest(runs):
    figure = curves.draw(settings(runs))
    loss, accuracy = figure.axes
    drawn = lines(accuracy, "cutout")
    assert list(drawn.get_xdata()) == [2, 3]
    assert drawn.get_ydata() == pytest.approx([statistics.fmean(CUTOUT) - 10, statistics.fmean(CUTOUT)])
    assert lines(loss, "mixup").get_ydata() == pytest.approx([3.0, 2.0, 1.5])
    corners = accuracy.collections[0].get_paths()[0].vertices  # of the best, cutout
    assert {
        x: (min(corners[corners[:, 0] == x, 1]), max(corners[corners[:, 0] == x, 1])) for x in (2, 3)
    } == {
        2: (81.5, 83.5),
        3: (91.5, 93.5),
    }
    assert [panel.get_ylabel() for panel in (loss, accuracy)] == ["training loss", "test accuracy (%)"]
    assert accuracy.get_xlabel() == "epoch"
    assert "mean of 3 seeds; band: from the lowest to the highest" in figure.get_supxlabel()
    assert [text.get_text() for text in accuracy.texts if text.get_text()] == ["cutout", "mixup", "none"]


def test_the_curves_of_a_run_show_all_metrics_in_the_same_colour_in_each_panel():
    rows = [
        {"epoch": 1, "lr": 0.2, "train_loss": 2.0, "seconds_train": 9.0},
        {"epoch": 2, "lr": 0.1, "train_loss": float("nan"), "test_loss": 1.5, "test_accuracy": 50.0},
        {"epoch": 3, "lr": 0.0, "test_loss": None, "ema_test_loss": 1.2, "ema_test_accuracy": 60.0},
    ]
    panels = curves.draw_runs([rows, rows[:1]]).axes
    drawn = {
        line.get_gid(): (line.get_label(), list(line.get_xdata()), line.get_color())
        for panel in panels
        for line in panel.lines
    }
    assert drawn["run-0-train_loss"][:2] == ("train", [1, 2])
    assert drawn["run-0-test_loss"][:2] == ("test", [2])
    assert drawn["run-0-ema_test_accuracy"][:2] == ("ema test", [3])
    assert drawn["run-1-lr"][1] == [1] and drawn["run-0-lr"][1] == [1, 2, 3]
    for metric in ("test", "ema_test"):
        assert drawn[f"run-0-{metric}_loss"][2] == drawn[f"run-1-{metric}_accuracy"][2]
    assert len({drawn[f"run-0-{key}"][2] for key in ("train_loss", "test_loss", "ema_test_loss")}) == 3
    assert [panel.get_ylabel() for panel in panels] == ["loss", "accuracy (%)", "learning rate"]
    assert curves.draw_curves(rows, "title") == curves.draw_curves(rows, "title")


def test_a_single_seed_has_no_band_and_the_caption_says_so(tmp_path):
    write(tmp_path, "none", NONE)
    write(tmp_path, "cutout", [92.0])
    figure = curves.draw(settings(tmp_path))
    assert [len(panel.collections) for panel in figure.axes] == [1, 1]
    assert "cutout: one seed, hence no band" in figure.get_supxlabel()


def test_accuracies_measured_at_one_epoch_are_drawn_as_rows_of_points(tmp_path):
    for name, accuracies in (("none", NONE), ("cutout", CUTOUT)):
        write(tmp_path, name, accuracies)
    for path in tmp_path.glob("**/metrics.jsonl"):
        first, second, last = map(json.loads, path.read_text().splitlines())
        del second["test_accuracy"]
        path.write_text("".join(json.dumps(row) + "\n" for row in (first, second, last)))
    panel = curves.draw(settings(tmp_path)).axes[1]
    assert lines(panel, "none").get_xdata() == pytest.approx([statistics.fmean(NONE)])
    assert [label.get_text() for label in panel.get_yticklabels()] == ["cutout", "none"]
    assert panel.get_xlabel() == "test accuracy (%) after epoch 3"


def test_with_many_settings_each_has_a_panel_that_repeats_the_baseline(tmp_path):
    for k in range(8):
        write(tmp_path, f"trick{k}", [90.0 + k])
    figure = curves.draw(settings(tmp_path), baseline="trick4")
    drawn = [panel for panel in figure.axes if panel.lines]
    assert [panel.get_title(loc="left") for panel in drawn] == 2 * [f"trick{k}" for k in range(7, -1, -1)]
    assert lines(drawn[8], "trick7").get_ydata() == pytest.approx([87, 97])
    assert all(lines(panel, "_baseline").get_ydata() == pytest.approx([84, 94]) for panel in drawn[8:11])
    assert "black: trick4" in figure.get_supxlabel()


@pytest.mark.parametrize("paired", [False, True])
def test_the_bars_of_a_forest_plot_are_the_intervals_of_the_oracle(runs, paired):
    table = table_of(runs, baseline="none", paired=paired)
    figure = forest.draw(table)
    (panel,) = figure.axes
    zero, *drawn = panel.lines
    assert list(zero.get_xdata()) == [0, 0]
    for values, bar, point in ((CUTOUT, *drawn[:2]), (MIXUP, *drawn[2:])):
        low, high, _ = student.paired(values, NONE) if paired else student.welch(values, NONE)
        assert bar.get_xdata() == pytest.approx([low, high])
        mean = statistics.fmean(values) - statistics.fmean(NONE)
        assert point.get_xdata() == pytest.approx([mean])
        assert f"+{mean:.2f}" in {text.get_text() for text in panel.texts}
    assert [label.get_text() for label in panel.get_yticklabels()] == ["cutout", "mixup"]
    assert [text.get_text() for text in panel.texts][2::3] == ["n", "3", "3"]
    assert panel.get_xlabel() == "test accuracy of the last epoch: difference to none (percentage points)"
    assert ("seed by seed" if paired else "Welch") in figure.get_supxlabel()


def test_a_single_run_has_a_point_without_a_bar_in_a_forest_plot(tmp_path):
    write(tmp_path, "none", NONE)
    write(tmp_path, "cutout", [92.0])
    figure = forest.draw(table_of(tmp_path, baseline="none"))
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [2, 1]
    assert "no bar: too few runs for an interval" in figure.get_supxlabel()


def test_twenty_long_names_neither_overlap_nor_are_clipped(tmp_path):
    for k in range(20):
        write(tmp_path, f"{LONG}={k}" if k % 3 == 0 else f"trick_{k}", [90 + k / 5, 90.5 + k / 4])
    figure = forest.draw(table_of(tmp_path, baseline="trick_1"))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    assert sum(label.get_text().replace("\n", "").startswith(LONG) for label in labels) == 7
    assert_readable([label.get_window_extent() for label in labels], figure.bbox)


def test_names_of_points_at_the_same_cost_do_not_overlap(tmp_path):
    for k in range(16):
        write(tmp_path, f"trick_{k}", [90 + k / 8, 90.3 + k / 8], train_flops=2e15 + (k == 3) * 1e14)
    rows, _ = compute.costed(table_of(tmp_path))
    figure = compute.draw(rows)
    figure.draw_without_rendering()
    names = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(names) == 16
    # The box of a text is higher than its letters, so boxes may touch.
    boxes = [text.get_window_extent().shrunk(1, 0.8) for text in names]
    assert_readable(boxes, figure.axes[0].bbox)


def assert_readable(boxes, within) -> None:
    for place, box in enumerate(boxes):
        assert box.x0 >= within.x0 - 1 and box.x1 <= within.x1 + 1
        assert box.y0 >= within.y0 - 1 and box.y1 <= within.y1 + 1
        assert not any(box.overlaps(other) for other in boxes[:place])


def test_accuracy_against_compute_has_the_intervals_of_the_oracle_and_the_pareto_front(runs):
    rows, left_out = compute.costed(table_of(runs))
    figure = compute.draw(rows)
    (panel,) = figure.axes
    drawn = {tuple(line.get_xdata()): line for line in panel.lines}
    for values, x in ((NONE, 3), (CUTOUT, 4), (MIXUP, 4.5)):
        assert drawn[x, x].get_ydata() == pytest.approx(student.interval(values))
        assert drawn[(x,)].get_ydata() == pytest.approx([statistics.fmean(values)])
    # Mixup costs more than cutout and is worse: the staircase goes from none to cutout, and ends.
    stairs = [statistics.fmean(values) for values in (NONE, NONE, CUTOUT)]
    assert drawn[3, 4, 4].get_ydata() == pytest.approx(stairs)
    assert len(panel.lines) == 7 and not left_out
    assert panel.get_xlabel() == "training compute (PFLOPs, 10¹⁵ operations)"
    assert panel.get_ylabel() == "test accuracy (%)"
    assert "mean of n = 3 seeds" in figure.get_supxlabel()


def test_a_wide_range_of_compute_gets_a_logarithmic_axis(tmp_path):
    write(tmp_path, "small", [90.0], train_flops=3e13)
    write(tmp_path, "large", [95.0], train_flops=6e15)
    (panel,) = compute.draw(compute.costed(table_of(tmp_path))[0]).axes
    assert panel.get_xscale() == "log"
    assert [line.get_xdata()[0] for line in panel.lines if len(line.get_xdata()) == 1] == [6.0, 0.03]


def test_records_without_compute_are_listed(tmp_path, capsys):
    write(tmp_path, "none", NONE)
    write(tmp_path, "old", CUTOUT, train_flops=None)
    output = tmp_path / "p.png"
    assert main(["compute", str(tmp_path), "-o", str(output)]) == 0
    assert "left out: old: its records have no train_flops\n" in capsys.readouterr().out


def test_settings_with_the_same_learning_rates_have_one_line(runs):
    write(runs, "warm", NONE[:1])
    path = runs / "warm/seed0/metrics.jsonl"
    path.write_text(path.read_text().replace('"lr": 0.2', '"lr": 0.15'))
    figure = learning_rate.draw(settings_of(read_records([runs]))[0])
    (panel,) = figure.axes
    assert [list(line.get_ydata()) for line in panel.lines] == [[0.2, 0.1, 0.0], [0.15, 0.1, 0.0]]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cutout, mixup, none", "warm"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("epoch", "learning rate")


def test_the_confusion_matrix_of_a_run_is_counted_from_its_predictions(runs):
    (run,) = read_records([runs / "none/seed0"]).runs
    figure = confusion.draw(run)
    panel = figure.axes[0]
    percents = np.array([[75, 25, 0], [0, 100, 0], [0, 0, 100]])
    np.testing.assert_allclose(np.array(panel.images[0].get_array()) ** 2, percents)
    assert [text.get_text() for text in panel.texts] == [*"310", *"030", *"003"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("predicted class", "true class")
    assert panel.get_title(loc="left") == "resnet9 on cifar10, seed 0: test accuracy 90.00 %"
    # A name, not a formula; an SVG has each text as a comment before its shapes.
    assert b"<!-- $hip$ -->" in encode(figure, "svg")
    (run.folder / "evaluation.json").unlink()
    labels = confusion.draw(run).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("curves empty", "there is no usable result.json below empty"),
        ("forest runs", "forest needs a --baseline"),
        ("forest runs --baseline cutuot", "there is no row 'cutuot' for the baseline: did you mean cutout?"),
        ("forest runs/none --baseline none", "nothing can be compared with the baseline 'none'"),
        ("curves runs -o p.jpg", "--output must end in .png, .svg, .pdf, got 'p.jpg'"),
        ("confusion runs/none/seed1", "runs/none/seed1/predictions.npz does not exist"),
        ("confusion runs", "confusion needs one run, but there are 9"),
        ("compute old", "no row has a training cost (train_flops"),
        ("curves unread", "metrics.jsonl cannot be read (FileNotFoundError)"),
        ("rate unread", "metrics.jsonl cannot be read (FileNotFoundError)"),
    ],
)
def test_bad_input_ends_in_one_line(command, said, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    Path("empty").mkdir()
    write(Path("old"), "none", NONE, train_flops=None)
    write(Path("unread"), "none", NONE[:1])
    Path("unread/none/seed0/metrics.jsonl").unlink()
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not list(Path().glob("*.p*"))


def test_runs_that_did_not_end_well_are_left_out_and_listed(runs, tmp_path, capsys):
    write(runs, "ricap", [10.0], status="diverged")
    assert main(["curves", str(runs), "-o", str(tmp_path / "p.svg")]) == 0
    said = capsys.readouterr().out
    assert "left out: " in said and "ricap/seed0: diverged" in said
    assert "ricap" not in (tmp_path / "p.svg").read_text()


def test_drawing_does_not_change_the_users_style():
    from matplotlib import rcParams

    @styled
    def fails():
        assert rcParams["svg.hashsalt"]
        raise BadInput("no")

    with pytest.raises(BadInput):
        fails()
    assert rcParams["svg.hashsalt"] is None and math.isclose(rcParams["axes.linewidth"], 0.8)
