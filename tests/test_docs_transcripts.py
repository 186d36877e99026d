"""docs/transcripts.md: it fits the terminal that it speaks of, and shows what the commands print."""

import re

import pytest

from scripts.docs import transcripts

BLOCK = re.compile(r"^## (.*?)\n\n```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_page_shows_each_kind_of_command_on_80_columns():
    blocks = dict(BLOCK.findall(transcripts.DOC.read_text()))
    assert len(blocks) == 7
    assert max(len(line) for text in blocks.values() for line in text.splitlines()) <= 80
    run, pipe, overview, one, error, *others = blocks.values()
    for text in (run, pipe):
        lines = text.partition("\nmodel ")[2].splitlines()
        assert next(i for i, line in enumerate(lines) if "images/s" in line) <= 12
    assert "| #/#" in run and "\nstep #/#" in pipe
    assert "--weight-decay" in overview and "--cutout-size" in one and "did you mean" in error
    assert all("\nnote: settings of other projects" in text for text in others)


@pytest.mark.slow
def test_the_page_is_what_the_commands_print():
    for path, text in transcripts.files(everything=False).items():
        assert path.read_text() == text
