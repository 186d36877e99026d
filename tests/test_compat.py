"""`--compat`: the settings of an older project where they differ, and nothing else."""

import shlex

import pytest
import torch

from lib.config.cli import parse
from lib.config.schema import Config, to_yaml
from lib.core.errors import BadInput
from lib.core.registry import REGISTRIES
from lib.data.base import Dataset, Split
from lib.factory import build_spec

OLD = "--compat pprp-2021"


def config(line: str = "") -> Config:
    return parse(shlex.split(line)).config()


def augmentations_of(line: str) -> list[str]:
    return list(config(line).tricks["augment"])


def test_compat_none_is_the_default():
    for line in ("", "--compat none"):
        assert config(line).data.normalize == "standard"
        assert config(line).changed == {}
    assert config("--compat none").digest() == config().digest()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_normalised_with_the_deviations_of_the_older_project(name):
    old = config(f"--dataset {name} {OLD}")
    assert old.data.normalize == "legacy"
    empty = Split(torch.zeros(0, 3, 32, 32), torch.zeros(0))
    stats = build_spec(old, Dataset(empty, empty, (), (0.5,) * 3, (0.25,) * 3))
    expected = {"cifar10": (0.2023, 0.1994, 0.2010), "cifar100": (0.2675, 0.2565, 0.2761)}[name]
    assert stats.std == expected


def test_an_explicit_setting_takes_precedence_wherever_it_is_given(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data: {normalize: standard}\n")
    for line in (f"{OLD} --normalize standard", f"--normalize standard {OLD}", f"--config {file} {OLD}"):
        explicit = config(line)
        assert explicit.data.normalize == "standard"
        assert explicit.changed["data"] == {"normalize": "standard"}  # it differs from what compat would give
        assert explicit.digest() != config(OLD).digest()


def test_mnist_is_flipped_by_default_as_in_the_older_project():
    assert augmentations_of("--dataset mnist") == ["crop"]
    assert augmentations_of(f"--dataset mnist {OLD}") == ["crop", "flip"]
    assert augmentations_of(f"--dataset mnist {OLD} --no-flip") == ["crop"]
    assert config(f"--dataset mnist {OLD}").data.normalize == "standard"


def test_a_data_set_that_the_older_project_lacks_is_unchanged():
    line = "--dataset digits"
    old, new = config(f"{line} {OLD}").tree(), config(line).tree()
    assert old["train"].pop("compat") == "pprp-2021"
    assert new["train"].pop("compat") == "none"
    assert old == new


@pytest.mark.parametrize("data", ["cifar10", "mnist"])
def test_the_run_folder_differs_and_its_name_has_only_the_users_choices(data):
    line = f"--dataset {data} --model resnet20 --cutout"
    old, new = config(f"{line} {OLD}"), config(line)
    assert old.folder() != new.folder()
    assert old.folder().parent.name == f"resnet20-cutout-compat_pprp-2021-{old.digest()}"


@pytest.mark.parametrize(
    "line",
    [
        f"--dataset cifar10 {OLD}",
        f"--dataset mnist {OLD}",
        f"--dataset mnist {OLD} --no-flip --mixup 0.4",
        f"--dataset cifar10 {OLD} --normalize standard --random-erase True --random-erase-prob 0.2 --cutout",
    ],
)
def test_saved_configurations_give_the_same_configuration(line, tmp_path):
    first = config(line)
    for name, tree in (("whole", first.tree()), ("diff", first.changed)):
        file = tmp_path / f"{name}.yaml"
        file.write_text(to_yaml(tree))
        again = config(f"--config {file}")
        assert again.tree() == first.tree()
        assert again.changed == first.changed
        assert (again.digest(), again.folder()) == (first.digest(), first.folder())


def test_only_compat_counts_as_changed():
    assert config(OLD).changed == {"train": {"compat": "pprp-2021"}}


def test_every_older_default_belongs_to_a_known_field_and_a_known_value_of_compat():
    # A fact that is no default, such as the usual augmentations, must have a current value too.
    found = 0
    for registry in REGISTRIES.values():
        for entry in registry.entries():
            for era, facts in entry.facts.compat.items():
                assert config(f"--compat {era}").train.compat == era
                constants = config().settings["data"].__dict__ if registry.kind == "dataset" else {}
                assert set(facts) <= {*entry.fields, *constants, *vars(entry.facts)}, entry.name
                found += 1
    assert found >= 3


@pytest.mark.parametrize("value", ["pprp-2020", "[1]", "true"])
def test_an_unknown_value_is_rejected_in_one_line_on_the_command_line_and_in_a_file(value, tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(f"train: {{compat: {value}}}\n")
    for line in (f"--compat {value}", f"--config {file}"):
        with pytest.raises(BadInput, match=r"compat .*expected one of none, pprp-2021") as caught:
            config(line)
        assert "\n" not in str(caught.value)
