"""docs/models.md and the counts in lib/models/macs.json are what the registry gives now."""

import json

import pytest

from lib.config.help import MACS
from lib.core.registry import models
from scripts.docs.models import DOC, measure, page

COUNTED = json.loads(MACS.read_text())


def test_every_model_is_counted_and_no_other():
    assert sorted(COUNTED) == sorted(models.names())


def test_the_page_is_that_of_the_registry():
    for kind in models.entries():
        models.function(kind.form)  # the page quotes the modules
    assert DOC.read_text() == page(COUNTED), "stale: run python -m scripts.docs.models"


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in models.names()])
def test_the_multiply_accumulates_are_what_the_network_does(name):
    assert measure(models[name]) == COUNTED[name]
