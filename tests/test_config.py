"""Configuration: every spelling, the order of layers, and nothing dropped in silence."""

import math
import shlex
from pathlib import Path

import pytest
import yaml

from lib.config.cli import parse
from lib.config.schema import SECTIONS, to_yaml
from lib.config.sources import flatten, read_yaml
from lib.core.contracts import split
from lib.core.registry import REGISTRIES
from lib.factory import build_schedule

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(set(ROOT.glob("configs/**/*.yaml")) - set(ROOT.glob("configs/grids/*")))


def config(line: str = ""):
    return parse(shlex.split(line)).config()


def changed(line: str):
    return config(line).changed


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    "line",
    [
        "--cutout 8",
        "--cutout=8",
        "--cutout-size 8",
        "--cutout_size=8",
        "--cutout --cutout-size 8",
        "--cutout True --cutout-size 8",
        "augment.cutout.size=8",
        "augment.cutout.size 8",
        "--augment.cutout.size 8",
        "cutout=8",
        "augmentation.use_cutout True augmentation.cutout.size 8",
    ],
)
def test_every_spelling_of_a_trick_means_the_same(line):
    assert changed(line) == {"augment": {"cutout": {"size": 8}}}


@pytest.mark.parametrize("line", ["--cutout", "--cutout True", "--cutout=true", "augment.cutout on"])
def test_a_trick_is_on_with_its_defaults(line):
    assert changed(line) == {"augment": {"cutout": True}}


@pytest.mark.parametrize("line", ["--no-cutout", "--cutout False", "cutout=off", ""])
def test_a_trick_that_is_off_is_absent(line):
    assert changed(line) == {}
    assert "cutout" not in config(line).tricks["augment"]


def test_a_usual_augmentation_can_be_switched_off_and_stays_off_in_the_saved_configuration(tmp_path):
    first = config("--no-flip")
    assert list(first.tricks["augment"]) == ["crop"]
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(first.tree()))
    assert config(f"--config {saved}").tree() == first.tree()


@pytest.mark.parametrize(
    "line",
    [
        "--lr 0.4",
        "--lr=4e-1",
        "optim.lr=0.4",
        "optim.lr 0.4",
        "train.base_lr 0.4",
        "train.lr 0.4",
        "--learning-rate .4",
        "--optim.lr 0.4",
        "optim.sgd.lr 0.4",
    ],
)
def test_every_spelling_of_a_setting_means_the_same(line):
    assert changed(line) == {"optim": {"lr": 0.4}}


def test_a_switch_does_not_swallow_the_setting_that_follows():
    expected = {"augment": {"cutout": True}, "optim": {"lr": 0.7}}
    assert changed("--cutout optim.lr=0.7") == expected
    assert changed("--cutout optim.lr 0.7") == expected
    assert changed("--cutout --lr 0.7") == expected
    assert changed("--cutout scheduler.type cosine")["schedule"] == {"name": "cosine"}


def test_negative_and_scientific_numbers_are_values():
    assert config("--schedule htd --schedule.lower -1e-3").chosen["schedule"].options["lower"] == -0.001
    assert config("--epochs 1e2").train.epochs == 100


# Section by section the commands that the older projects' readers type.
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--dataset cifar10", {}),
        ("--dataset cifar10 --ricap True", {"augment": {"ricap": True}}),
        (
            "--model 'shake_resnet26_2x64d' --cutout True",
            {"model": {"name": "shake_resnet26_2x64d"}, "augment": {"cutout": True}},
        ),
        ("--crit lsr", {"augment": {"label_smoothing": True}}),
        ("--crit lsr --smooth_factor 0.2", {"augment": {"label_smoothing": {"epsilon": 0.2}}}),
        ("--optims sam", {"wrap": {"sam": True}}),
        ("--optims asam", {"wrap": {"asam": True}}),
        ("--optims nesterov --bs 64", {"optim": {"name": "nesterov"}, "train": {"batch_size": 64}}),
        ("--sched cosine --epochs 300", {"schedule": {"name": "cosine"}, "train": {"epochs": 300.0}}),
        ("--fast True", {"data": {"fraction": 0.5}}),
        ("--half False --amp False --fast False --autoaugmentation False", {}),
        ("--half True", {"train": {"precision": "fp16"}}),
        ("--gpu 1", {"run": {"device": "cuda:1"}}),
        ("--milestones 60,120,160", {"schedule": {"milestones": [60.0, 120.0, 160.0]}}),
        ("--nw 4", {}),
        (
            "--random-erase True --random-erase-prob 0.2 --random-erase-sl 0.1",
            {"augment": {"random_erasing": {"prob": 0.2, "area_min": 0.1}}},
        ),
        (
            "--config configs/cifar/resnet_preact.yaml model.resnet_preact.depth 20 train.batch_size 512 "
            "train.base_lr 0.4 scheduler.type cosine scheduler.epochs 400",
            {
                "model": {"name": "resnet_preact", "depth": 20},
                "optim": {"name": "nesterov", "lr": 0.4, "weight_decay": 1e-4},
                "schedule": {"name": "cosine"},
                "train": {"epochs": 400.0, "batch_size": 512},
            },
        ),
    ],
)
def test_older_projects_commands_mean_what_they_meant(line, expected):
    assert changed(line) == expected


@pytest.mark.parametrize("value", ["'[True, False, False]'", "true,false,false"])
def test_a_list_may_be_written_as_python_writes_it(value):
    line = f"--config configs/cifar/resnet_preact.yaml model.resnet_preact.preact_stage {value}"
    assert config(line).chosen["model"].options["preact_stage"] == (True, False, False)


def test_a_flag_that_has_lost_its_meaning_is_noted():
    assert any("--nw" in note for note in config("--nw 4").notes)


def test_a_retired_key_of_a_file_is_noted_too(tmp_path):
    (tmp_path / "old.yaml").write_text("nw: 4\nlr: 0.2\n")
    composed = config(f"--config {tmp_path / 'old.yaml'}")
    assert composed.changed == {"optim": {"lr": 0.2}}
    assert "nw" in composed.notes[0]


def test_later_layers_override_earlier_ones(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("optim: {lr: 0.5}\naugment: {cutout: 16, mixup: true}\ntrain: {epochs: 7}\n")
    two.write_text("augment.cutout.size: 8\noptim: {lr: 0.6}\n")
    composed = config(f"--config {one},{two} --cutout 4 --no-mixup")
    assert composed.changed == {
        "augment": {"cutout": {"size": 4}},
        "optim": {"lr": 0.6},
        "train": {"epochs": 7.0},
    }


def test_a_later_setting_switches_a_trick_on_again(tmp_path):
    file = tmp_path / "off.yaml"
    file.write_text("augment: {cutout: false, flip: false}\n")
    composed = config(f"--config {file} --cutout-size 4")
    assert composed.changed["augment"] == {"cutout": {"size": 4}, "flip": False}


def test_another_choice_voids_the_old_ones_settings_and_says_so(tmp_path):
    file = tmp_path / "sgd.yaml"
    file.write_text("optim: {lr: 0.5, momentum: 0.8, decay_norm_and_bias: false}\n")
    composed = config(f"--config {file} --optim adamw")
    assert composed.chosen["optim"].options["lr"] == 1e-3
    assert composed.settings["optim"].decay_norm_and_bias is False
    (note,) = composed.notes
    assert "optim.lr" in note
    assert "optim.momentum" in note


def test_naming_what_a_recipe_has_already_changes_nothing(tmp_path):
    # Of every section that chooses: an option set, with and without its default named, then the choice named.
    for name, section in SECTIONS.items():
        if not section.is_choice:
            continue
        entry = section.registry[section.default]
        for field in entry.fields.values():
            if split(field.type)[0] is not float or not isinstance(field.default, float):
                continue
            key, value = f"{name}.{field.name}", field.default / 2
            file = tmp_path / f"{name}.yaml"
            file.write_text(f"{key}: {value}\n")
            plain = config(f"--config {file}")
            for spelling in (entry.name, *entry.aliases):
                named = config(f"--config {file} --{name} {spelling}")
                assert (named.tree(), named.notes) == (plain.tree(), plain.notes)


def test_naming_the_schedule_of_a_recipe_keeps_its_milestones():
    recipe = "--config configs/cifar/resnet.yaml"
    for line in ("--schedule multistep", "scheduler.type multistep", "--sched multistep"):
        named = config(f"{recipe} {line}")
        assert named.tree() == config(recipe).tree()
        assert not any("ignored" in note for note in named.notes)
    assert config(f"{recipe} --schedule cosine").notes  # of another schedule they are ignored, with a note


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_pins_nothing_of_one_run_or_one_machine(path):
    # So a recipe with a changed setting, or with another seed, has a folder that is its own.
    keys = {key for key, _ in read_yaml(path)}
    assert not keys & {"run.output_dir", "run.name", "run.device", "data.root", "train.seed"}
    line = f"--config {path}"
    assert len({config(f"{line} {more}").folder() for more in ("", "--clip 7", "--seed 1")}) == 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_can_be_shortened(path):
    # Its points in time are fractions of its budget, or fit into the shortest one.
    short = config(f"--config {path} --epochs 8 --warmup 0")
    schedule = build_schedule(short)
    assert all(math.isfinite(schedule(tenth * 0.8, 8)) for tenth in range(10))


@pytest.mark.parametrize(
    ("name", "epochs", "drops"),  # as their sources write them
    [
        ("recipes/hysts", 160, (80, 120)),
        ("recipes/pprp", 200, (59, 119, 159)),
        ("recipes/densenet", 300, (150, 225)),
        ("recipes/resnet", 200, (100, 150)),
        ("cifar/vgg", 160, (80, 120)),
        ("cifar/resnet", 160, (80, 120)),
        ("cifar/resnet_preact", 160, (80, 120)),
        ("cifar/wrn", 200, (60, 120, 160)),
    ],
)
def test_the_drops_of_a_recipe_are_those_of_its_source(name, epochs, drops):
    recipe = config(f"--config configs/{name}.yaml")
    schedule, gamma = build_schedule(recipe), recipe.chosen["schedule"].options["gamma"]
    assert recipe.train.epochs == epochs
    for epoch in range(epochs):
        assert schedule(epoch, epochs) == gamma ** sum(epoch >= drop for drop in drops)


def test_yaml_takes_the_flags_spellings_too(tmp_path):
    file = tmp_path / "flat.yaml"
    file.write_text("model: resnet20\nlr: 1e-1\ncutout: true\nsched: cosine\n")
    assert config(f"--config {file}").changed == {
        "model": {"name": "resnet20"},
        "augment": {"cutout": True},
        "schedule": {"name": "cosine"},
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_parses_and_holds_only_what_differs(path):
    settings = read_yaml(path)
    assert settings
    composed = parse(["--config", str(path)]).config()
    assert sorted(key for key, _ in flatten(composed.changed)) == sorted(
        key if "." in key else f"{key}.name" for key, _ in settings
    )
    assert yaml.safe_load(to_yaml(composed.tree())) == composed.tree()


def test_the_saved_configurations_give_the_same_configuration_again(tmp_path):
    line = "--model wrn_16_2 --mixup 0.2 --sam --ema 0.99 --optim adamw --warmup 3 --val 0.1 --no-flip"
    first = config(line)
    for name, tree in (("whole", first.tree()), ("diff", first.changed)):
        file = tmp_path / f"{name}.yaml"
        file.write_text(to_yaml(tree))
        again = config(f"--config {file}")
        assert again.tree() == first.tree()
        assert again.digest() == first.digest()


def test_what_is_learned_is_named_by_what_differs_from_the_defaults():
    # So a setting that is added later, at its default, leaves the names of all runs as they were.
    line = "--model resnet20 --lr 0.1 --flip --cutout 8 --seed 3 --device cpu --root /x"
    assert config(line).learned() == {"model": {"name": "resnet20"}, "augment": {"cutout": {"size": 8}}}


def test_no_two_settings_share_a_short_spelling():
    settings = [key for section in SECTIONS.values() for key in section.fields]
    assert len(settings) == len(set(settings))


def test_every_field_has_a_help_text_and_every_entry_a_description():
    for section in SECTIONS.values():
        assert all(field.help for field in section.fields.values())
    for registry in REGISTRIES.values():
        for entry in registry.entries():
            assert entry.facts.paper or entry.about, entry.name
            missing = [field.name for field in entry.fields.values() if not field.help]
            assert not missing, f"{entry.name}: {missing}"


def test_the_default_is_the_published_baseline():
    base = config("--dataset cifar10")
    assert base.chosen["model"].entry.name == "wideresnet"
    assert base.chosen["model"].options == {"dropout": 0.3}
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
    assert base.chosen["optim"].options == options
    schedule = base.chosen["schedule"].build()
    assert [schedule(epoch, 200) for epoch in (59, 60, 120, 160)] == pytest.approx([1, 0.2, 0.04, 0.008])
    assert (base.train.epochs, base.train.batch_size) == (200, 128)
    assert list(base.tricks["augment"]) == ["crop", "flip"]


def test_autoaugment_random_erasing_and_mixup_are_on_together():
    tree = config("--autoaugmentation True --random-erase True --mixup True").tree()["augment"]
    assert {"autoaugment", "random_erasing", "mixup"} < set(tree)


def test_autoaugment_of_an_older_time_is_its_port():
    options = config("--autoaugment --compat pprp-2021").tricks["augment"]["autoaugment"].options
    assert (options["variant"], options["fill"]) == ("port", 128)
    options = config("--autoaugment --compat pprp-2021 --autoaugment-variant paper").tree()["augment"]
    assert options["autoaugment"]["variant"] == "paper"
    assert config("--autoaugment svhn").tree()["augment"]["autoaugment"]["variant"] == "paper"
