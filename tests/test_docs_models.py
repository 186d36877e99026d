"""docs/models.md and the multiply-accumulates of lib/models/macs.json."""

import json

import pytest

from lib.config.listing import MACS
from lib.core.registry import models
from scripts.docs import models as generator

COUNTED = json.loads(MACS.read_text())


def test_only_models_without_a_count_are_counted(monkeypatch, tmp_path):
    counts = dict.fromkeys(models.names(), 7)
    del counts["resnet20"]
    monkeypatch.setattr(generator, "MACS", tmp_path / "macs.json")
    generator.MACS.write_text(json.dumps(counts | {"a_model_of_the_past": 7}))
    calls = []
    monkeypatch.setattr(generator, "measure", lambda entry: calls.append(entry.name) or 9)
    written = json.loads(generator.files(everything=False)[generator.MACS])
    assert calls == ["resnet20"]
    assert written == dict.fromkeys(models.names(), 7) | {"resnet20": 9}


def test_the_page_has_a_row_for_every_model():
    rows = [
        line.split(" | ")[0].removeprefix("| ")
        for line in generator.page({}).splitlines()
        if line[:2] == "| "
    ]
    shown = [row.replace("&lt;", "<").replace("&gt;", ">") for row in rows if row != "name"]
    assert sorted(shown) == sorted(entry.name for entry in models.entries())


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in COUNTED if n in models])
def test_the_counted_multiply_accumulates_are_those_of_the_model(name):
    assert generator.measure(models[name]) == COUNTED[name]
