"""`--model timm/<name> --model.pretrained`: weights in the local cache, in place of the network."""

from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

import train
from lib.config.cli import parse
from lib.factory import build
from tests.helpers.images import image_folder

pytestmark = pytest.mark.usefixtures("undrawn")

NAME = "test_resnet"  # timm's smallest
CPU = torch.device("cpu")


@pytest.fixture
def cache(tiny, tmp_path_factory, monkeypatch) -> dict[str, torch.Tensor]:
    """A local cache of the hub with weights of the model, which are returned; no server answers."""
    place = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(constants, "ENDPOINT", "http://localhost:9")
    repo = place / ("models--" + timm.get_pretrained_cfg(NAME).hf_hub_id.replace("/", "--"))
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("0" * 40)
    (repo / "snapshots" / ("0" * 40)).mkdir(parents=True)
    torch.manual_seed(3)
    weights = timm.create_model(NAME).state_dict()
    save_file(weights, repo / "snapshots" / ("0" * 40) / "model.safetensors")
    return weights


def test_weights_in_the_cache_are_loaded_without_a_network(cache):
    config = parse(f"--config {'tiny.yaml'} --model timm/{NAME} --model.pretrained".split()).config()
    found = build(config, CPU, note=pytest.fail).model.state_dict()
    head = timm.get_pretrained_cfg(NAME).classifier
    loaded = {name for name, tensor in cache.items() if not name.startswith(f"{head}.")}
    assert found[f"{head}.weight"].shape[0] == 4
    assert all(torch.equal(found[name], cache[name]) for name in loaded)


def test_images_are_normalised_and_sized_for_the_weights_unless_the_user_says_otherwise(cache):
    image_folder(Path("images"), train=2, test=1)
    data = f"--config tiny.yaml --dataset folder:images --model timm/{NAME} --batch-size 2"
    expected = timm.get_pretrained_cfg(NAME)
    config = parse(f"{data} --model.pretrained".split()).config()
    run = build(config, CPU, note=lambda line: None)
    assert run.spec.shape == expected.input_size
    assert (run.spec.mean, run.spec.std) == (expected.mean, expected.std)
    assert "data.normalize pretrained, data.image_size" in " ".join(config.notes)
    own = parse(f"{data} --model.pretrained --normalize standard --image-size 8".split()).config()
    run = build(own, CPU, note=lambda line: None)
    assert run.spec.shape == (3, 8, 8) and run.spec.mean != expected.mean
    assert "pretrained weights" not in " ".join(own.notes)


def test_a_trained_run_needs_the_pretrained_weights_no_more(cache, monkeypatch, tmp_path):
    line = f"--config tiny.yaml --model timm/{NAME} --model.pretrained --epochs 1 --milestones 0.5"
    assert train.main([*line.split(), "--output-dir", "run"]) == 0
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0


def test_weights_that_cannot_be_had_are_refused_in_one_line(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://localhost:9")
    refused(f"--model timm/{NAME} --model.pretrained", NAME, "cannot be reached", "--model.pretrained")
    refused("--model timm/resnet10t_none --model.pretrained", "resnet10t_none")


def test_a_damaged_file_of_weights_is_refused_in_one_line(cache, refused):
    (file,) = Path(constants.HF_HUB_CACHE).rglob("model.safetensors")
    file.write_bytes(file.read_bytes()[:5000])
    refused(f"--model timm/{NAME} --model.pretrained", NAME, "cannot be loaded")
