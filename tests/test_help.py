"""--help and --list: complete, as wide as the terminal, and each example works."""

import io
import re
import sys

import pytest

import train
from lib.config.cli import parse
from lib.config.flags import example
from lib.config.listing import KINDS
from lib.config.schema import SECTIONS

REGISTERED = {name: section for name, section in SECTIONS.items() if section.registry}
EVERYTHING = ["--help", "--help all", *(f"--list {kind}" for kind in KINDS)]


@pytest.fixture
def shown(capsys, monkeypatch):
    """Run a command line that must succeed; returns its output in a pipe of `columns` columns."""

    def run(line: str, columns: int | None = None) -> str:
        monkeypatch.delenv("COLUMNS", raising=False)
        if columns:
            monkeypatch.setenv("COLUMNS", str(columns))
        assert train.main(line.split()) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("columns", [80, 132])
@pytest.mark.parametrize("line", EVERYTHING)
def test_no_line_is_wider_than_the_terminal(shown, line, columns):
    assert max(map(len, shown(line, columns).splitlines())) <= columns


def test_the_overview_has_every_trick_and_at_most_120_lines(shown):
    text = shown("--help", 80)
    assert len(text.splitlines()) <= 120
    for section in SECTIONS.values():
        for entry in section.registry.entries() if section.is_tricks else ():
            assert re.search(rf"^  --{entry.name.replace('_', '-')} ", text, re.MULTILINE), entry.name


def test_the_overview_begins_with_what_most_people_set(shown):
    beginning = " ".join(shown("--help", 80).splitlines()[:26])
    wanted = "--model --dataset --epochs --batch-size --lr --optim --schedule --weight-decay --seed --root"
    assert all(f" {flag} " in beginning for flag in wanted.split())
    assert "--lr 0.2 " in shown("--help --lr 0.2", 80)


def test_what_is_on_by_default_for_the_data_is_marked(shown):
    # Objects may be mirrored, and digits not.
    marked = {
        data: re.findall(r"--(\S+) \*", shown(f"--help --dataset {data}")) for data in ("cifar10", "digits")
    }
    assert marked == {"cifar10": ["crop", "flip"], "digits": ["crop"]}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_of_a_section_has_each_setting_and_entry(shown, name):
    text, section = shown(f"--help {name}", 80), SECTIONS[name]
    for key in section.fields:
        assert f"--{key.replace('_', '-')}" in text
    for entry in section.registry.entries() if section.registry else ():
        spelled = entry.name.replace("_", "-") if section.is_tricks else entry.name
        assert spelled in text
        for key in entry.fields if name != "model" else ():
            assert f"{key.replace('_', '-')}" in text


@pytest.mark.parametrize("name", REGISTERED)
def test_the_page_of_an_entry_has_its_options_paper_and_source_and_a_working_example(shown, name, tmp_path):
    entries = REGISTERED[name].registry.entries()
    for entry in entries[:: 1 + len(entries) // 40]:  # of the models, some
        text = shown(f"--help {entry.name}", 200)
        words = [f"{key.replace('_', '-')} " for key in entry.fields]
        assert all(word in text for word in (*words, entry.about, entry.facts.paper)), entry.name
        if entry.placeholders:
            continue
        found = re.findall(rf"python train.py (.*--{name}.*|.*--{entry.name.replace('_', '-')}.*)", text)
        assert " ".join(example(name, entry)) in [line.strip() for line in found], entry.name
        config = parse(example(name, entry)).config()
        chosen = {name: config.chosen[name].entry.name} if name in config.chosen else config.tricks[name]
        assert entry.name in (*chosen, *chosen.values()), entry.name
        (tmp_path / "it.yaml").write_text(re.search(r"in YAML +(.*)", text)[1])
        config = parse(["--config", str(tmp_path / "it.yaml")]).config()
        chosen = {name: config.chosen[name].entry.name} if name in config.chosen else config.tricks[name]
        assert entry.name in (*chosen, *chosen.values()), entry.name


def test_options_of_all_augmentations_are_explained_once(shown):
    text = " ".join(shown("--help augment", 200).split())
    assert text.count("first epoch in which it is applied") == 1


def test_a_setting_is_shown_with_the_defaults_of_each_entry_that_has_it(shown):
    text = shown("--help lr", 200)
    assert re.search(r"^ +sgd .*\(0\.1; above 0\)$", text, re.MULTILINE)
    assert re.search(r"^ +adamw .*\(0\.001; above 0\)$", text, re.MULTILINE)
    assert "--cutout-size INT" in shown("--help cutout-size")
    assert "--epochs NUMBER" in shown("--help epochs")
    assert shown("--help dataset") == shown("--help data")
    assert "--seeds 0..9" in shown("--help seeds")
    assert "--model.shortcut A|B" in shown("--help resnet20")


@pytest.mark.parametrize(
    ("topic", "hint"), [("cutuot", "cutout"), ("resnt20", "resnet20"), ("qqqq", "python train.py --help")]
)
def test_an_unknown_topic_is_refused_with_the_nearest_ones(topic, hint, capsys):
    assert train.main(["--help", topic]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --help {topic}: ") and hint in line


@pytest.mark.parametrize("line", ["--help", "--help sam", "--list optim"])
def test_colour_is_for_terminals_alone_and_none_under_no_color(line, monkeypatch):
    def printed(terminal: bool, **environment: str) -> str:
        with monkeypatch.context() as patch:
            out = io.StringIO()
            out.isatty = lambda: terminal
            for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
                patch.delenv(name, raising=False)
            for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", **environment}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", out)
            assert train.main(line.split()) == 0
            return out.getvalue()

    coloured, plain = printed(True), printed(False)
    assert "\x1b[" in coloured and "\x1b" not in plain
    assert printed(True, NO_COLOR="1") == plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == plain.split()


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_is_listed_in_a_line_for_other_programs(shown, kind):
    text, registry = shown(f"--list {kind}"), KINDS[kind]
    assert all(entry.name in text for entry in registry.entries())
    assert len(text.strip().split("\n")) == len(registry.entries()) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_listing_loses_nothing(shown, kind):
    wide, narrow = (sorted("".join(shown(f"--list {kind}", columns).split())) for columns in (400, 80))
    assert wide == narrow


BEGINNINGS = "models augment optim schedules datasets model wrap surgery init select"


@pytest.mark.parametrize("kind", BEGINNINGS.split())
def test_the_beginning_of_a_kind_is_enough(shown, kind):
    assert shown(f"--list {kind}").startswith("name")


def test_a_listing_is_filtered_by_pattern_and_shows_counts(shown):
    text = shown("--list models wrn_28*")
    assert "36,479,194" in text
    assert "resnet20" not in text
    assert "resnet18" in shown("--list models ResNet18")  # in any case


def test_a_listing_is_filtered_by_size(shown):
    small = shown("--list models resnet* <300k")
    assert "resnet20 " in small
    assert "resnet32 " not in small
    between = shown("--list models >1M <2M wrn*")
    assert [line.split()[0] for line in between.splitlines()[1:]] == ["wrn_28_2"]


def test_a_listing_shows_multiply_accumulates(shown):
    assert "40.6 M" in shown("--list models resnet20")
