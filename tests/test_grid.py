"""Grids: what a file asks for becomes command lines, and what cannot be meant is refused in one line."""

import json
import shlex
from pathlib import Path

import pytest

import scripts.grid
from lib.config.cli import parse
from lib.config.schema import SECTIONS
from lib.core.contracts import unit_of
from lib.core.errors import BadInput
from lib.grid.carry_out import summary
from lib.grid.estimate import duration, recorded_times
from lib.grid.job import Job, backends, done, last_line, outcome, worth_repeating
from lib.grid.scale import scaled
from lib.grid.spec import read_grid, read_seeds
from lib.grid.timing import time_row
from tests.helpers.run_records import write_runs
from tests.helpers.runs import TINY

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scripts.grid, "estimate", lambda *known: "time: untold")


def grid(text: str):
    Path("g.yaml").write_text(text)
    return read_grid(Path("g.yaml"))


def lines(text: str) -> dict[str, str]:
    return {row.name: " ".join(row.arguments) for row in grid(text).rows}


def test_a_row_for_each_combination_in_order():
    assert lines("axes: {model.name: [resnet20, vgg16], cutout: [off, on], lr: [0.1, 5e-2]}") == {
        "resnet20-lr0.1": "--model.name resnet20 --no-cutout --lr 0.1",
        "resnet20-lr5e-2": "--model.name resnet20 --no-cutout --lr 5e-2",
        "resnet20-cutout-lr0.1": "--model.name resnet20 --cutout --lr 0.1",
        "resnet20-cutout-lr5e-2": "--model.name resnet20 --cutout --lr 5e-2",
        "vgg16-lr0.1": "--model.name vgg16 --no-cutout --lr 0.1",
        "vgg16-lr5e-2": "--model.name vgg16 --no-cutout --lr 5e-2",
        "vgg16-cutout-lr0.1": "--model.name vgg16 --cutout --lr 0.1",
        "vgg16-cutout-lr5e-2": "--model.name vgg16 --cutout --lr 5e-2",
    }


def test_named_sets_single_rows_and_a_base_of_files_and_settings():
    Path("small.yaml").write_text("model: resnet20\nepochs: 3\n")
    assert lines("""
        base: {config: small.yaml, optim: {lr: 0.2}, milestones: [1, 2], clip: null}
        axes: {mix: {none: , mixup: 0.2, both: {mixup: on, augment.cutmix.alpha: 0.5}}}
        rows: {sam: on, slow: {lr: 0.01, crit: lsr}}
    """) == {
        "none": "--config small.yaml --optim.lr 0.2 --milestones 1,2 --clip none",
        "mixup": "--config small.yaml --optim.lr 0.2 --milestones 1,2 --clip none --mixup 0.2",
        "both": "--config small.yaml --optim.lr 0.2 --milestones 1,2 --clip none --mixup "
        "--augment.cutmix.alpha 0.5",
        "sam": "--config small.yaml --optim.lr 0.2 --milestones 1,2 --clip none --sam",
        # What is said anew stands where the base had it; `crit: lsr` is spelled as what it means.
        "slow": "--config small.yaml --lr 0.01 --milestones 1,2 --clip none --augment.label_smoothing",
    }


def test_what_a_row_says_takes_the_place_of_the_base():
    found = lines("""
        base: {cutout: 16, optim: adamw, lr: 1e-3, schedule: cosine}
        rows: {plain: , none: {cutout: off}, small: {cutout-size: 8}, sgd: {optim: sgd}}
    """)
    assert found["none"].split(" --")[-1] == "no-cutout" and "--cutout" not in found["none"]
    assert "--cutout-size 8" in found["small"] and "16" not in found["small"]
    assert "1e-3" not in found["sgd"]
    sgd = grid(Path("g.yaml").read_text()).rows[-1]
    assert any("ignored: lr" in note for note in sgd.notes)


def test_the_words_are_read_back_as_they_were_meant():
    text = "{data: 'folder:a=b', name: '--odd', channels_last: off, clip: 0.5, milestones: [[5], [6, 7]]}"
    rows = grid(
        f"base: {text}".replace(", milestones: [[5], [6, 7]]", "") + "\naxes: {milestones: [[5], [6, 7]]}"
    ).rows
    assert [row.name for row in rows] == ["milestones5", "milestones6,7"]
    tree = parse(list(rows[1].arguments)).config().tree()
    assert tree["data"]["name"] == "folder:a=b" and tree["run"]["name"] == "--odd"
    assert tree["train"]["channels_last"] is False and tree["schedule"]["milestones"] == [6, 7]


def test_exclusions_take_combinations_away_and_leave_single_rows():
    text = "axes: {cutout: [off, on], mix: {none: , mixup: on}}\nrows: {both: {cutout: on, mixup: 0.5}}\n"
    assert list(lines(text)) == ["none", "mixup", "cutout", "cutout-mixup", "both"]
    assert list(lines(text + "exclude: [{cutout: on, mix: mixup}]")) == ["none", "mixup", "cutout", "both"]
    assert list(lines(text + "exclude: {cutout: off}")) == ["cutout", "cutout-mixup", "both"]


def test_a_published_number_is_a_fact_of_its_row_and_no_setting():
    rows = grid("rows: {plain: , cutout: {cutout: on, published: table-3}}").rows
    assert [row.published for row in rows] == [None, "table-3"]
    assert rows[1].arguments == ("--cutout",)


def test_a_published_number_stands_beside_a_result_and_not_beside_a_trial(tmp_path):
    whole = grid("rows: {plain: {published: pprp_step_cutout_mixup/001}, cutout: {cutout: on}}")
    write_runs(tmp_path / "runs", "plain", [20.0, 21.0])
    write_runs(tmp_path / "runs", "cutout", [22.0, 23.0])
    result, trial = (summary([], whole, tmp_path / "runs", trial=trial) for trial in (False, True))
    assert "published" in result and "96.33" in result
    assert "published" not in trial and "96.33" not in trial and "22.50" in trial


def test_seeds_are_a_list_or_a_span():
    assert read_seeds("0..4") == (0, 1, 2, 3, 4)
    assert read_seeds([3, 1]) == (3, 1)
    assert read_seeds("0, 7") == (0, 7)
    assert grid("rows: {a: {lr: 1}}").seeds == (0,)
    assert grid("rows: {a: {lr: 1}, b: {lr: 2}}\nbaseline: b").baseline == "b"


BAD = {
    "an unknown key": ("base: {cutuot: on}\nrows: {a: }", "unknown setting 'cutuot'", "did you mean cutout"),
    "an unknown key of a row": ("rows: {a: {trian.epochs: 3}}", "row a", "train.epochs"),
    "an unknown value": ("axes: {model.name: [resnet20, resnt56]}", "row resnt56", "did you mean resnet56"),
    "a wrong value": ("rows: {a: {epochs: many}}", "row a", "expected a number, got 'many'"),
    "an unknown key of the file": ("axis: {cutout: [on]}", "unknown key 'axis'", "did you mean axes"),
    "an empty axis": ("axes: {cutout: []}", "axis cutout", "expected values"),
    "an axis of one value": ("axes: {lr: 0.1}", "axis lr", "expected values"),
    "a value that stands twice": ("axes: {lr: [0.1, 0.1]}", "axis lr", "stands twice"),
    "sets without names": ("axes: {mix: [{mixup: on}]}", "axis mix", "need names"),
    "neither axes nor rows": ("base: {epochs: 3}", "needs axes or rows"),
    "an empty file": ("", "needs axes or rows"),
    "two rows that are the same run": ("rows: {a: {lr: 0.2}, b: {lr: 2e-1}}", "a and b are the same run"),
    "two rows of one name": ("axes: {cutout: [on]}\nrows: {cutout: 8}", "two rows of this name"),
    "names that some file systems confuse": ("rows: {a: {lr: 1}, A: {lr: 2}}", "two rows of this name"),
    "a name that is no folder": ("rows: {../a: {lr: 1}}", "row '../a'", "letters, digits"),
    "a seed that is no number": ("rows: {a: }\nseeds: [0, x]", "seeds must be whole numbers", "'x'"),
    "a single seed": ("rows: {a: }\nseeds: 3", "seeds must be whole numbers", "got 3"),
    "a span that is empty": ("rows: {a: }\nseeds: 4..0", "seeds", "there is none"),
    "a seed twice": ("rows: {a: }\nseeds: [1, 1]", "seeds", "stands twice"),
    "an exclusion of no axis": ("axes: {lr: [1, 2]}\nexclude: [{cutout: on}]", "'cutout' is no axis", "lr"),
    "an exclusion of no value": ("axes: {lr: [1, 2]}\nexclude: {lr: 3}", "3 is no value of the axis", "1, 2"),
    "an exclusion without axes": ("rows: {a: }\nexclude: [{lr: 3}]", "no axes to exclude from"),
    "an exclusion of all": ("axes: {lr: [1]}\nexclude: [{lr: 1}]", "needs axes or rows"),
    "a baseline that is no row": ("rows: {plain: }\nbaseline: plane", "'plane'", "did you mean plain"),
    "a seed among the settings": ("rows: {a: {seed: 3}}", "row a", "use seeds"),
    "a folder among the settings": ("base: {run: {output_dir: x}}\nrows: {a: }", "use --output-dir"),
    "a missing file of settings": ("base: {config: no.yaml}\nrows: {a: }", "no.yaml", "no such file"),
    "two settings that contradict": ("rows: {a: {cutout: off, cutout_size: 4}}", "row a", "remove one"),
    "rows that are no mapping": ("rows: [a, b]", "rows: expected key: value"),
    "a key twice": ("rows: {a: , a: }", "was given twice"),
    "no YAML": ("rows: {a", "line 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_meant_is_refused_in_one_line_before_anything_runs(case, capsys):
    text, *parts = BAD[case]
    Path("g.yaml").write_text(text)
    assert scripts.grid.main(["g.yaml"], train=("false",)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: g.yaml") and said.count("\n") == 1
    for part in parts:
        assert part in said
    assert [path.name for path in Path().iterdir()] == ["g.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("no.yaml", "no.yaml: there is no such file"),
        ("g.yaml --only sma", "--only sma matches no row; there are plain, sam"),
        ("g.yaml --seeds x", "seeds must be whole numbers"),
        ("g.yaml --scale 2", "--scale must be above 0 and below 1, got 2.0"),
        ("g.yaml --jobs 0", "--jobs must be at least 1, got 0"),
        ("g.yaml --gpus 0,,1", "--gpus must be names or numbers"),
        ("g.yaml --backend lokal", "unknown back end 'lokal': did you mean local?"),
    ],
)
def test_a_bad_word_is_refused_in_one_line(words, said, capsys):
    Path("g.yaml").write_text("rows: {plain: , sam: on}")
    assert scripts.grid.main(words.split()) == 2
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1


def test_a_dry_run_shows_what_a_user_could_type_and_leaves_nothing(capsys):
    Path("g.yaml").write_text("base: {name: a b}\nrows: {plain: , cutout: 8}\nseeds: [0, 3]")
    assert scripts.grid.main(["g.yaml", "--dry-run", "--only", "cut*"]) == 0
    head, time, *commands = capsys.readouterr().out.splitlines()
    assert head == "1 row x 2 seeds: 2 runs, 2 to do, in runs/grids/g"
    assert time == "time: untold"
    assert commands == [
        f"python train.py --name 'a b' --cutout 8 --seed {seed} --output-dir runs/grids/g/cutout/seed{seed}"
        for seed in (0, 3)
    ]
    assert list(Path().iterdir()) == [Path("g.yaml")]
    config = parse(shlex.split(commands[1])[2:]).config()
    assert config.train.seed == 3 and config.folder() == Path("runs/grids/g/cutout/seed3")


def test_a_grid_that_was_changed_does_not_take_the_other_ones_runs_for_its_own(capsys):
    grid("rows: {a: {lr: 0.1}}")
    folder = Path("runs/grids/g/a/seed0")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(parse(["--lr", "0.3"]).config().tree()))
    assert scripts.grid.main(["g.yaml"], train=("false",)) == 2
    said = capsys.readouterr().err
    assert "holds another configuration" in said and "optim.lr: 0.3 there, 0.1 here" in said


# At a scale of 1/2.
MOVED = {
    "--epochs 200 --schedule multistep --milestones 60,120": {"schedule.milestones": [0.3, 0.6]},
    "--epochs 200 --milestones 0.3,120": {"schedule.milestones": [0.3, 0.6]},
    "--epochs 40 --schedule sgdr": {"schedule.first": 0.25},
    "--epochs 50 --schedule onecycle --peak 5": {"schedule.peak": 0.1},
    "--epochs 10 --schedule cosine --warmup 2": {"schedule.warmup": 0.2},
    "--epochs 10 --schedule cosine --swa-start 8": {"average.swa.start": 0.8},
    "--epochs 10 --schedule cosine --mixup-stop 8 --mixup-start 3": {
        "augment.mixup.start": 1,
        "augment.mixup.stop": 4,
    },
    "--epochs 10 --schedule cosine": {},
}


@pytest.mark.parametrize("line", MOVED)
def test_a_scaled_run_has_its_points_in_time_where_they_were(line):
    config = parse([*line.split(), "--dataset", "digits", "--batch-size", "8"]).config()
    found = scaled(config, 0.5)
    found_epochs = found.pop("train.epochs")
    assert found_epochs == config.train.epochs / 2
    assert found.pop("data.fraction") == 0.5
    assert found.pop("run.evaluate_every") == found_epochs
    assert found == MOVED[line]


def test_a_scaled_run_has_a_batch_of_images():
    config = parse(["--dataset", "digits", "--batch-size", "512", "--epochs", "4"]).config()
    images = scaled(config, 0.01)["data.fraction"] * 1438
    assert 512 < images < 600


def test_a_setting_whose_help_mentions_epochs_has_a_unit_or_is_known_to_need_none():
    without_unit = {
        (entry.name if entry else name, field.name)
        for name, section in SECTIONS.items()
        for entry in (None, *(section.registry.entries() if section.registry else ()))
        for field in (entry or section).fields.values()
        if "epoch" in field.help and not unit_of(field.type)
    }
    assert without_unit == {
        ("flip", "alternating"), ("cyclic", "gamma"), ("progressive_resizing", "smallest"),
        ("train", "epochs"), ("run", "evaluate_every"), ("run", "save_every"),
    }  # fmt: skip


def test_a_trial_lives_in_a_folder_of_its_own(capsys):
    grid("base: {epochs: 100, milestones: [50]}\nrows: {a: }")
    assert scripts.grid.main(["g.yaml", "--dry-run", "--scale", "0.5"]) == 0
    trial, *_, command = capsys.readouterr().out.splitlines()
    assert trial == "a trial, and no results: 0.5 of the epochs, on 0.5 of the images"
    assert command == (
        "python train.py --train.epochs 50.0 --schedule.milestones 0.5 --data.fraction 0.5 "
        "--run.evaluate_every 50 --seed 0 "
        "--output-dir runs/grids/g-scale0.5/a/seed0"
    )


def test_how_a_run_ended_is_read_from_its_folder(tmp_path):
    job = Job("a", 0, (), tmp_path / "a")
    assert outcome(job) is None and not done(job) and worth_repeating(job, -9) and not worth_repeating(job, 2)
    job.folder.mkdir()
    assert last_line(job) == ""
    job.console.write_text("first\nlast\n\n")
    assert last_line(job) == "last"
    for status, complete, again in (
        ("ok", True, False), ("diverged", True, False), ("interrupted", False, True),
        ("out of memory", False, False),
    ):  # fmt: skip
        (job.folder / "result.json").write_text(json.dumps({"status": status}))
        assert (outcome(job), done(job), worth_repeating(job, 1)) == (status, complete, again)
    (job.folder / "result.json").write_text("{")
    assert outcome(job) is None


def test_every_back_end_says_what_it_is_and_what_its_flags_mean(capsys):
    for entry in backends.entries():
        assert entry.about and all(field.help for field in entry.fields.values())
        with pytest.raises(SystemExit):
            scripts.grid.main(["--backend", entry.name, "--help"])
        shown = capsys.readouterr().out
        assert all(f"--{name.replace('_', '-')}" in shown for name in entry.fields)


def test_a_back_ends_own_flags_reach_it(capsys):
    grid("rows: {a: }")
    seen = []

    def odd(jobs, options, report, depth: int = 3):
        seen.append((len(jobs), options.retries, depth))

    backends.register("odd", odd)
    try:
        assert scripts.grid.main(["g.yaml", "--backend", "odd", "--depth", "7", "--retries", "0"]) == 1
        assert scripts.grid.main(["g.yaml", "--backend", "odd", "--depth", "x"]) == 2
    finally:
        del backends._functions["odd"], backends._entries["odd"]
    assert seen == [(1, 0, 7)]
    assert "--depth: expected a whole number, got 'x'" in capsys.readouterr().err


def test_time_is_told_from_records_of_the_same_setting(tmp_path):
    rows = grid("rows: {a: {lr: 0.1}, b: {lr: 0.2}}").rows
    for seed, seconds in ((0, 50.0), (1, 70.0)):
        folder = tmp_path / f"runs/a/seed{seed}"
        folder.mkdir(parents=True)
        record = {
            "format": 1, "status": "ok", "seed": seed, "config": rows[0].config.digest(), "config_diff": {},
            "dataset": "d", "model": "m", "steps": 1, "environment": {},
            "seconds": {"train": seconds, "data": 1.0, "evaluate": 10.0},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(record))
    assert recorded_times(tmp_path / "runs", rows) == {"a": 70.0}
    assert recorded_times(tmp_path / "nothing", rows) == {}


def test_a_few_steps_tell_what_a_run_costs_and_nothing_is_downloaded_for_it(tmp_path):
    Path("tiny.yaml").write_text(TINY)
    timing = time_row("a", ["--config", "tiny.yaml", "--epochs", "1000", "--milestones", "0.5"])
    # 4,000 steps of at least a tenth of a millisecond, and 1,000 evaluations; none of them was done.
    assert timing.row == "a" and timing.device == "cpu"
    assert timing.train > 0.4 and timing.evaluate > 0.1 and timing.start > 0
    assert timing.seconds == timing.start + timing.train + timing.evaluate
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
    with pytest.raises(BadInput, match="offline"):
        time_row("b", ["--dataset", "cifar10", "--root", str(tmp_path / "empty")])


def test_lengths_of_time_are_told_as_people_say_them():
    said = {3: "3 s", 89: "89 s", 600: "10 min", 5 * 3600: "5.0 h", 86400 * 5: "5.0 days"}
    assert {seconds: duration(seconds) for seconds in said} == said


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/grids/*.yaml")), ids=lambda path: path.stem)
def test_every_grid_of_the_project_can_be_read(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = read_grid(path)
    assert len(found.rows) > 1 and found.baseline in [row.name for row in found.rows]
