"""A value means the same on the command line and in a YAML file, whatever YAML 1.1 makes of it."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lib.config.cli import parse
from lib.core.errors import BadInput
from lib.grid.spec import read_seeds

# A setting of each type, and one that may be none.
KEYS = (
    "train.seed", "train.epochs", "run.name", "run.tensorboard", "augment.cutout", "schedule.milestones",
    "train.clip", "train.precision", "run.output_dir",
)  # fmt: skip
# Words that YAML 1.1 reads as octal, sexagesimal, hexadecimal, dates, booleans, none, infinity...
WORDS = (
    "010", "1:30", "1e-3", "1.e-3", "1_000", "0x10", "0b11", "0o17", "2001-01-01", "2001-99-99", "null",
    "None", "~", "yes", "no", "on", "off", "True", "y", ".inf", "-.inf", ".nan", "+3", "3.", "=", "1.5.2",
    "9007199254740993",
)  # fmt: skip
# Words that need no quotes in YAML and are no flag on the command line.
words = st.sampled_from(WORDS) | st.from_regex(r"[0-9a-zA-Z_.~+][0-9a-zA-Z_.:+~-]{0,7}(?<!:)", fullmatch=True)


def outcome(arguments: list[str]) -> object:
    """The configuration, or the reason why there is none, without the place of the setting."""
    try:
        return parse(arguments).config().tree()
    except BadInput as error:
        return re.sub(r"\(.*?\)", "", str(error))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=st.sampled_from(KEYS), word=words)
@example(key="train.seed", word="010")
@example(key="train.epochs", word="1:30")
def test_a_value_in_a_file_is_what_it_is_on_the_command_line(tmp_path_factory, key, word):
    file = tmp_path_factory.getbasetemp() / "one.yaml"
    file.write_text(f"{key}: {word}\n")
    assert outcome(["--config", str(file)]) == outcome([f"{key}={word}"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seed: 010", 10),
        ("seed: 9007199254740993", 2**53 + 1),  # which no float holds
        ("seed: 1e3", 1000),
        ("epochs: 1e1", 10.0),
        ("clip: ~", None),
        ("name: on", "on"),
        ("name: 2001-01-01", "2001-01-01"),
    ],
)
def test_a_word_of_yaml_is_read_as_the_setting_needs_it(tmp_path, text, value):
    file = tmp_path / "one.yaml"
    file.write_text(text)
    config, key = parse(["--config", str(file)]).config(), text.split(":")[0]
    assert getattr(config.run if key == "name" else config.train, key) == value


@pytest.mark.parametrize(
    "text", ["epochs: 1:30", "epochs: 1_0", "seed: 0x10", "epochs: .inf", "sam: 2001-01-01"]
)
def test_a_number_of_yaml_that_is_none_elsewhere_is_refused(tmp_path, text):
    file = tmp_path / "one.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=r"expected a (whole )?number, got"):
        parse(["--config", str(file)]).config()


@pytest.mark.parametrize("seeds", ["3", "1"])
def test_a_lone_number_of_seeds_is_refused_with_both_ways_to_write_it(seeds):
    with pytest.raises(BadInput, match=rf"{seeds}\.\.{seeds} or 0\.\.{int(seeds) - 1}"):
        read_seeds(seeds)


# Paths


@pytest.mark.parametrize("path", ["~/x", "$HOME/x", "${HOME}/x"])
def test_a_path_is_expanded_wherever_it_is_given(tmp_path, monkeypatch, path):
    monkeypatch.setenv("HOME", str(tmp_path))
    here = str(tmp_path / "x")
    file = tmp_path / "x"
    keys = ("run.output_dir", "data.root", "train.init_from", "teachers.teacher")
    file.write_text("".join(f"{key}: {path}\n" for key in keys))
    typed = ["--output-dir", path, "--root", path, "--init-from", path, "--teacher", path]
    for config in (parse(["--config", path]).config(), parse(typed).config()):
        assert config.folder() == Path(here)
        assert (config.data.root, config.train.init_from) == (here, here)
        assert config.settings["teachers"].teacher == (here,)
    assert parse(["--evaluate", path]).folder == Path(here)
    assert parse([f"--config={path},{path}"]).files == [file, file]
