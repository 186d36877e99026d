"""`hubconf.py`: torch.hub finds every model, untrained or with the weights of a run."""

from pathlib import Path

import pytest
import torch

from lib.core.errors import BadInput
from lib.core.registry import models
from lib.data.synthetic import synthetic
from lib.factory.load import load

CHECKOUT = str(Path(__file__).parents[1])


def hub_load(name: str, **options) -> torch.nn.Module:
    return torch.hub.load(CHECKOUT, name, source="local", **options)


@pytest.fixture
def on_github(monkeypatch):
    """torch.hub lists repositories of GitHub only: this checkout stands in for its download."""
    monkeypatch.setattr("torch.hub._get_cache_or_reload", lambda *_, **options: CHECKOUT)
    return "owner/name"


def test_the_entry_points_are_the_models(on_github):
    assert set(torch.hub.list(on_github)) == set(models.names())


def test_the_help_of_an_entry_point_names_its_options(on_github):
    text = torch.hub.help(on_github, "vit")
    assert "run folder" in text and all(option in text for option in models["vit"].fields)


def test_an_untrained_model_takes_the_options_of_the_model():
    model = hub_load("vit", depth=1, width=16, num_classes=3, image_size=8)
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


def test_the_weights_of_a_run_give_its_predictions(trained):
    test = synthetic(size=120, image_size=8).test
    x = load(trained).images["test"].normalize(test.x)
    for network in ("last", "ema"):
        weights = torch.load(trained / "last.pt", weights_only=True)
        weights = weights["model"] if network == "last" else weights["averages"]["ema"]
        expected = models["resnet20"].build(num_classes=10, in_channels=3, image_size=8).eval()
        expected.load_state_dict(weights)
        model = hub_load("resnet20", run=str(trained), network=network)
        torch.testing.assert_close(model(x), expected(x), atol=1e-5, rtol=1e-5)


def test_a_run_of_another_model_is_refused(trained):
    with pytest.raises(BadInput, match="is a run of resnet20, not of resnet32"):
        hub_load("resnet32", run=str(trained))
    with pytest.raises(BadInput, match="not of resnet20 with num_classes"):
        hub_load("resnet20", run=str(trained), num_classes=5)
