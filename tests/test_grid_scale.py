"""--scale: a trial of a grid on a fraction of its epochs and images."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

import scripts.grid
from lib.config.cli import parse
from lib.config.help import help_text
from lib.config.schema import SECTIONS
from lib.core.budget import in_epochs
from lib.core.contracts import unit_of
from lib.core.registry import REGISTRIES
from lib.grid.catalogue import find_grid
from lib.grid.scale import scaled
from tests.helpers.grids import write_grid

# Command lines, and the settings that a scale of 1/2 moves.
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
def test_scaling_moves_all_points_in_time(line):
    config = parse([*line.split(), "--dataset", "digits", "--batch-size", "8"]).config()
    found = scaled(config, 0.5)
    epochs = config.train.epochs / 2
    budget = {"train.epochs": epochs, "data.fraction": 0.5, "run.evaluate_every": epochs}
    assert found == budget | MOVED[line]


@pytest.mark.parametrize(("epochs", "scale"), [(4, 0.05), (10, 0.099), (10, 0.5)])
def test_a_time_at_the_end_of_the_budget_stays_there_in_every_trial(epochs, scale):
    line = f"--epochs {epochs} --schedule sgdr --first {epochs} --dataset digits --batch-size 8"
    settings = scaled(parse(line.split()).config(), scale)
    first, budget = settings["schedule.first"], settings["train.epochs"]
    assert in_epochs(first, budget) == pytest.approx(budget, rel=1e-5)


def test_a_scaled_run_has_images_for_one_batch():
    config = parse(["--dataset", "digits", "--batch-size", "512", "--epochs", "4"]).config()
    images = scaled(config, 0.01)["data.fraction"] * 1438
    assert 512 < images < 600


def test_a_setting_with_help_that_mentions_epochs_has_a_unit_or_needs_none():
    without_unit = {
        (entry.name if entry else name, field.name)
        for name, section in SECTIONS.items()
        for entry in (None, *(section.registry.entries() if section.registry else ()))
        for field in (entry or section).fields.values()
        if "epoch" in field.help and not unit_of(field.type)
    }
    assert without_unit <= {
        ("flip", "alternating"), ("cyclic", "gamma"), ("progressive_resizing", "smallest"),
        ("train", "epochs"), ("run", "evaluate_every"), ("run", "save_every"),
    }  # fmt: skip


def every_choice() -> Iterator[list[str]]:
    """A command line for every registered name: the trick switched on, or the entry chosen."""
    for name, section in SECTIONS.items():
        for entry in section.registry.names() if section.registry else ():
            yield [f"--{name}.name", entry] if section.is_choice else [f"--{name}.{entry}"]


def derived() -> dict[str, object]:
    """Everything that the program derives from fields, but for texts that are shown to people."""
    found = {}
    for words in every_choice():
        config = parse([*words, "--epochs", "40"]).config()
        found[" ".join(words)] = (config.tree(), config.digest(), str(config.folder()), scaled(config, 0.1))
    for name in ("quickstart", "pprp_sam_asam_cos_ls", "hysts_ghost_bn"):
        for row in find_grid(name).rows:
            trial = row.override("--scale", scaled(row.config, 0.05))
            found[f"{name}: {row.name}"] = (row.arguments, trial.arguments, trial.config.digest())
    return found


@contextlib.contextmanager
def nonsense_help() -> Iterator[None]:
    """Replace the help text of every field of every section and registered thing."""
    entries = [entry for registry in REGISTRIES.values() for entry in registry.entries()]
    with pytest.MonkeyPatch.context() as patch:
        for fields in [section.fields for section in SECTIONS.values()] + [e.parameters for e in entries]:
            for name, field in fields.items():
                patch.setitem(fields, name, replace(field, help="epochs of a fraction, from 0; milk"))
        forget_fields(entries)
        try:
            yield
        finally:
            forget_fields(entries)


def forget_fields(entries) -> None:
    for entry in entries:
        vars(entry).pop("fields", None)  # a cached property, derived from `parameters`


def test_program_logic_reads_no_help_text():
    usual, shown = derived(), help_text(["all"], parse([]).config())
    assert len(usual) > 200
    with nonsense_help():
        assert derived() == usual
        nonsense = help_text(["all"], parse([]).config())
    assert nonsense.count("milk") > 100 and "milk" not in shown  # the replacement has an effect
    assert help_text(["all"], parse([]).config()) == shown


def test_a_trial_has_a_folder_of_its_own(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scripts.grid, "estimate", lambda *known: "")
    write_grid("base: {epochs: 100, milestones: [50]}\nrows: {a: }")
    assert scripts.grid.main(["g.yaml", "--dry-run", "--scale", "0.5"]) == 0
    trial, *_, command = capsys.readouterr().out.splitlines()
    assert trial == "a trial, not a result: 0.5 of the epochs on 0.5 of the images"
    assert command == (
        "python train.py --train.epochs 50.0 --schedule.milestones 0.5 --data.fraction 0.5 "
        "--run.evaluate_every 50 --seed 0 "
        "--output-dir runs/grids/g-scale0.5/a/seed0"
    )
