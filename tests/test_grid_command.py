"""`python -m scripts.grid`: its options, its output, and the estimate of its time."""

import io
import json
import shlex
import time
from pathlib import Path

import pytest

import lib.engine.evaluate
import scripts.grid
from lib.config.cli import parse
from lib.core.errors import BadInput
from lib.grid import timing
from lib.grid.estimate import recorded_times
from lib.grid.job import Job, backends, done, last_line, outcome, worth_retrying
from lib.grid.progress import summary
from tests.helpers.grids import write_grid
from tests.helpers.run_records import write_runs
from tests.helpers.runs import TINY


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scripts.grid, "estimate", lambda *known: "time: unknown")


@pytest.mark.parametrize(
    ("words", "message"),
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
def test_a_wrong_option_is_refused_in_one_line(words, message, capsys):
    Path("g.yaml").write_text("rows: {plain: , sam: on}")
    assert scripts.grid.main(words.split()) == 2
    found = capsys.readouterr().err
    assert message in found and found.count("\n") == 1


def test_a_dry_run_prints_commands_and_writes_nothing(capsys):
    Path("g.yaml").write_text("base: {name: a b}\nrows: {plain: , cutout: 8}\nseeds: [0, 3]")
    assert scripts.grid.main(["g.yaml", "--dry-run", "--only", "cut*"]) == 0
    head, *commands = capsys.readouterr().out.splitlines()  # no estimate, for which steps would be trained
    assert head == "1 row x 2 seeds: 2 runs, 2 to do, in runs/grids/g"
    assert commands == [
        f"python train.py --name 'a b' --cutout 8 --seed {seed} --output-dir runs/grids/g/cutout/seed{seed}"
        for seed in (0, 3)
    ]
    assert list(Path().iterdir()) == [Path("g.yaml")]
    config = parse(shlex.split(commands[1])[2:]).config()
    assert config.train.seed == 3 and config.folder() == Path("runs/grids/g/cutout/seed3")


def test_published_numbers_are_shown_for_results_and_not_for_trials(tmp_path):
    whole = write_grid("rows: {plain: {published: pprp_step_cutout_mixup/001}, cutout: {cutout: on}}")
    write_runs(tmp_path / "runs", "plain", [20.0, 21.0])
    write_runs(tmp_path / "runs", "cutout", [22.0, 23.0])
    result, trial = (summary([], whole, tmp_path / "runs", trial=trial) for trial in (False, True))
    assert "published" in result and "96.33" in result
    assert "published" not in trial and "96.33" not in trial and "22.50" in trial


def test_the_outcome_of_a_run_is_read_from_its_folder(tmp_path):
    job = Job("a", 0, (), tmp_path / "a")
    assert outcome(job) is None and not done(job) and worth_retrying(job, -9) and not worth_retrying(job, 2)
    job.folder.mkdir()
    assert last_line(job) == ""
    job.console.write_text("first\nlast\n\n")
    assert last_line(job) == "last"
    for status, complete, again in (
        ("ok", True, False), ("diverged", True, False), ("interrupted", False, True),
        ("out of memory", False, False),
    ):  # fmt: skip
        (job.folder / "result.json").write_text(json.dumps({"status": status}))
        assert (outcome(job), done(job), worth_retrying(job, 1)) == (status, complete, again)
    (job.folder / "result.json").write_text("{")
    assert outcome(job) is None


def test_every_back_end_has_help_for_itself_and_its_flags(capsys):
    for entry in backends.entries():
        assert entry.about and all(field.help for field in entry.fields.values())
        with pytest.raises(SystemExit):
            scripts.grid.main(["--backend", entry.name, "--help"])
        shown = capsys.readouterr().out
        assert all(f"--{name.replace('_', '-')}" in shown for name in entry.fields)


def test_a_back_end_gets_its_own_flags(capsys):
    write_grid("rows: {a: }")
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


def test_time_is_estimated_from_records_of_the_same_configuration(tmp_path):
    rows = write_grid("rows: {a: {lr: 0.1}, b: {lr: 0.2}}").rows
    for seed, seconds in ((0, 50.0), (1, 70.0)):
        folder = tmp_path / f"runs/a/seed{seed}"
        folder.mkdir(parents=True)
        record = {
            "format": 1, "status": "ok", "seed": seed, "config": rows[0].config.digest(), "config_diff": {},
            "dataset": "d", "model": "m", "steps": 1, "environment": {},
            "seconds": {"start": 5.0, "train": seconds, "data": 1.0, "evaluate": 10.0},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(record))
    assert recorded_times(tmp_path / "runs", rows) == {"a": 75.0}
    assert recorded_times(tmp_path / "nothing", rows) == {}


def test_a_few_steps_estimate_the_time_of_a_run_without_downloads(tmp_path):
    Path("tiny.yaml").write_text(TINY)
    found = timing.time_row("a", ["--config", "tiny.yaml", "--epochs", "1000", "--milestones", "0.5"])
    # 4,000 steps of at least a tenth of a millisecond, and 1,000 evaluations; none of them was done.
    assert found.row == "a" and found.device == "cpu"
    assert found.train > 0.4 and found.evaluate > 0.1 and found.start > 0
    assert found.seconds == found.start + found.train + found.evaluate
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
    with pytest.raises(BadInput, match="offline"):
        timing.time_row("b", ["--dataset", "cifar10", "--root", str(tmp_path / "empty")])


def test_the_estimate_counts_the_start_of_a_process_and_the_end_of_a_run(monkeypatch, capsys):
    Path("tiny.yaml").write_text(TINY)
    drawn = []
    monkeypatch.setattr("lib.report.plots.curves.draw_curves", lambda rows, title: drawn.append(rows))
    rows = {"a": ["--config", "tiny.yaml"], "last": ["--config", "tiny.yaml", "--tta-flip", "--val", "0.5"]}
    request = json.dumps({"started": time.time() - 100, "rows": rows})  # it took 100 s to get here
    monkeypatch.setattr("sys.stdin", io.StringIO(request))
    evaluated = []
    evaluate = lib.engine.evaluate.evaluate
    monkeypatch.setattr(lib.engine.evaluate, "evaluate", lambda *of: evaluated.append(of) or evaluate(*of))
    timing.main()
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["start"] > 100 and last["start"] > 100 and len(drawn) == 1
    # Each is done twice, as the first is slower. Of `last`: val, then val and test, each with its view.
    assert len(evaluated) == 2 * (1 + 1) + 2 * (1 + 2 * 2)
