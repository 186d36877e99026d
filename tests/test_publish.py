"""`python -m scripts.publish`: what timm, huggingface_hub and this project read of the folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import lib
import train
from lib.graph.cost import count_macs
from scripts import publish
from tests.helpers.hub import hub
from tests.helpers.runs import TINY

pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_folder_is_a_run_that_gives_the_recorded_predictions(run):
    assert publish.main(["run", "-o", "out", "--network", "ema"]) == 0
    assert {path.name for path in Path("out").iterdir()} == {
        "README.md", "config.json", "last.pt", "model.safetensors",
    }  # fmt: skip
    published = lib.load("out", device="cpu")
    found = lib.evaluate(published.network("last"), published.images["test"])
    with np.load("run/predictions.npz") as arrays:
        torch.testing.assert_close(found.logits, torch.from_numpy(arrays["ema_logits"]))
    weights = torch.load("run/last.pt", weights_only=True)["averages"]["ema"]
    torch.testing.assert_close(load_file("out/model.safetensors"), dict(weights))


def test_the_card_has_the_numbers_of_the_record(run):
    assert publish.main(["run", "-o", "out", "--license", "cc-by-4.0"]) == 0
    record, card = json.loads((run / "result.json").read_text()), ModelCard.load("out/README.md")
    assert card.data.license == "cc-by-4.0" and card.data.datasets == ["synthetic"]
    (result,) = card.data.eval_results
    assert result.metric_type == "accuracy" and 100 * result.metric_value == record["test_accuracy"]
    macs = count_macs(lib.create_model("resnet20", image_size=8), (3, 8, 8))
    for part in (
        f"{record['test_accuracy']:.2f} %",
        "over 30 test images",
        "n = 1 (seed 0)",
        f"{record['parameters']:,}",
        f"({macs / 1e6:.4g} M multiply-accumulates)",
        record["environment"]["command"],
        "class 9",
        "0.25 of the training images (a number, or a fraction below 1) were held out",
        "milestones",
    ):
        assert part in card.text, part


def test_the_interval_is_that_of_wilson():
    # Wilson 1927 by hand: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).
    from scripts.model_card import _interval

    p, n, z = 0.9115, 10_000, 1.959964
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = (100 * (middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert f"{low:.2f} to {high:.2f} over 10,000" in _interval(91.15, 10_000)
    assert "to 100.00 over" in _interval(100.0, 50)


@pytest.mark.parametrize(
    ("model", "is_timm"),
    [
        ("timm/mobilenetv3_small_050 --model.stem original --model.drop-rate 0.1", True),
        ("timm/vit_tiny_patch16_224 --model.patch-size 4", True),
        ("timm/resnet10t", False),  # with another stem for small images
    ],
)
def test_timm_loads_a_network_of_timm(tiny, model, is_timm):
    text = TINY.replace("model: {name: resnet20}\n", "").replace("image_size: 8", "image_size: 16")
    Path(tiny).write_text(text.replace("epochs: 2", "epochs: 1").replace("[1]", "[0.5]"))
    line = f"--model {model} --no-crop --output-dir run"
    assert train.main(["--config", tiny, *line.split()]) == 0
    assert publish.main(["run", "-o", "out"]) == 0
    assert Path("out/last.pt").exists() != is_timm
    if is_timm:
        theirs = timm.create_model("local-dir:out", pretrained=True).eval()
        run = lib.load("run", device="cpu")
        found, expected = (lib.evaluate(m, run.images["test"]) for m in (theirs, run.network("last")))
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)
        assert theirs.pretrained_cfg["mean"] == pytest.approx(run.data.mean)
        assert list(theirs.pretrained_cfg["label_names"]) == list(run.classes)
        assert 'timm.create_model("local-dir:FOLDER", pretrained=True)' in Path("out/README.md").read_text()


@pytest.fixture
def server(monkeypatch):
    """A local hub, as $HF_ENDPOINT names it to huggingface_hub where this is imported."""
    with hub(token="hf_secret") as found:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield found


def test_an_upload_puts_the_folder_on_the_hub_and_never_shows_the_token(run, server, capfd, monkeypatch):
    assert publish.main(["run", "-o", "out", "--upload", "owner/name", "--private"]) == 0
    assert server.files == {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert server.repositories[0]["name"] == "name"
    assert 'snapshot_download("owner/name")' in Path("out/README.md").read_text()
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    said = capfd.readouterr()
    assert "owner/name" in said.out
    assert publish.main(["run", "-o", "again", "--upload", "owner/name"]) == 2
    refused = capfd.readouterr()
    assert "error: owner/name cannot be uploaded" in refused.err and "again is complete" in refused.err
    texts = [said.out, said.err, refused.out, refused.err]
    texts += [path.read_bytes().decode(errors="replace") for path in (*Path("out").iterdir(), *run.iterdir())]
    assert not any("hf_secret" in text or "hf_other" in text for text in texts)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run -o run", "run exists already"),
        ("run -o out --network ema_tta_flip", "publish its network, ema"),
        ("run/last.pt -o out --network swa", "has no network 'swa'"),
        ("nowhere -o out", "there is no checkpoint nowhere"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(run, capsys, line, said):
    assert publish.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
    assert not Path("out").exists()


def test_an_incomplete_run_is_refused(run, capsys):
    (run / "result.json").unlink()
    assert publish.main(["run", "-o", "out"]) == 2
    assert "is not a complete run" in capsys.readouterr().err
