"""Names as users spell them, and names of other libraries."""

import pytest

from lib.config.cli import parse
from lib.core.errors import BadInput
from lib.core.registry import REGISTRIES, models, optimizers

ENTRIES = [
    entry for registry in REGISTRIES.values() for entry in registry.entries() if not entry.placeholders
]


@pytest.mark.parametrize("spell", [str.upper, str.title, lambda name: name.replace("_", "-")])
def test_every_name_and_alias_is_found_in_any_case_and_with_dashes(spell):
    """Of models, data sets, augmentations, optimizers, schedules, losses, and of all other kinds."""
    for entry in ENTRIES:
        registry = REGISTRIES[entry.kind]
        for name in (entry.name, *entry.aliases):
            assert registry[spell(name)].name == entry.name
            assert spell(name) in registry


def test_no_two_names_of_a_kind_differ_in_their_case_or_dashes_alone():
    for kind, registry in REGISTRIES.items():
        spellings = [spelling for entry in registry.entries() for spelling in set(entry.spellings)]
        assert len(spellings) == len(set(spellings)), kind


@pytest.mark.parametrize(
    ("name", "found", "arguments"),
    [
        ("WRN-16-4", "wrn_16_4", {"depth": 16, "widen": 4}),
        ("TIMM/ResNet18", "timm/ResNet18", {"name": "ResNet18"}),
    ],
)
def test_the_fixed_part_of_a_form_is_found_in_any_case(name, found, arguments):
    entry = models[name]
    assert (entry.name, entry.arguments) == (found, arguments)


def test_a_path_in_a_name_keeps_its_case_and_dashes():
    assert REGISTRIES["dataset"]["folder:/a-B/C_d"].arguments == {"path": "/a-B/C_d"}


def test_a_command_line_in_any_case_means_the_same():
    plain = "--model vgg19 --dataset cifar100 --optim adamw --schedule cosine --cutmix --sam --no-flip"
    cased = "--Model VGG19 --Dataset CIFAR100 --Optim AdamW --Schedule Cosine --CutMix --SAM --no-Flip"
    assert parse(cased.split()).config().tree() == parse(plain.split()).config().tree()


@pytest.mark.parametrize(
    ("registry", "name", "hints"),
    [
        (models, "resnet26d", ["timm/resnet26d"]),
        (models, "EfficientNet_B3", ["timm/efficientnet_b3", "torchvision/efficientnet_b3"]),
        (models, "wide_resnet50_2", ["timm/wide_resnet50_2", "torchvision/wide_resnet50_2"]),
        (optimizers, "Adafactor", ["timm/adafactor"]),
    ],
)
def test_a_name_of_timm_or_torchvision_is_hinted_at_with_its_prefix(registry, name, hints):
    with pytest.raises(BadInput, match=f"did you mean {' or '.join(hints)}\\?$"):
        registry[name]
    assert all(hint in registry for hint in hints)
