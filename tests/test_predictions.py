"""`lib.loader.evaluate` and `predict`, and trained runs."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.core.errors import BadInput
from lib.loader import evaluate, load, predict
from tests.helpers.loaders import loader_of
from tests.helpers.runs import train_ten_classes


class Linear(nn.Module):
    """A fixed linear classifier; a part of it stays in eval mode."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 3 * 256 * 4).sin().view(768, 4))
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x).flatten(1) @ self.weight


def test_predictions_are_those_of_the_normalised_images_in_order():
    loader, model = loader_of(size=1100), Linear()  # more than a batch of evaluation
    x = loader.train.x.double() / 255
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True, correction=0)
    logits = x.flatten(1) @ model.weight.detach().double()
    p, found = predict(model, loader.train), evaluate(model, loader.train)
    torch.testing.assert_close(p.double(), logits.softmax(1), atol=1e-4, rtol=0)
    accuracy = 100 * (logits.argmax(1) == loader.train.y).double().mean().item()
    top = logits.topk(2).values
    ties = (top[:, 0] - top[:, 1] < 1e-4).double().mean().item()  # float32 may decide these differently
    assert found.accuracy == pytest.approx(accuracy, abs=100 * ties + 1e-9) and ties < 0.01
    assert found.loss == pytest.approx(F.cross_entropy(logits, loader.train.y).item(), rel=1e-4)
    torch.testing.assert_close(predict(model, loader.train.take(torch.tensor([70, 3]))), p[[70, 3]])


def test_modes_of_the_model_are_restored_and_logits_may_be_part_of_a_loss():
    loader, model = loader_of(), Linear()
    logits = evaluate(model, loader.test).logits
    assert model.training and not model.frozen.training
    weight = torch.ones(4, requires_grad=True)
    (logits * weight).sum().backward()
    torch.testing.assert_close(weight.grad, logits.sum(0))


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, fp16, got 'fp8'"):
        predict(Linear(), loader_of().test, "fp8")


def test_a_trained_run_is_loaded_with_its_networks_and_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = train_ten_classes(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    run = load(folder, device="cpu")
    assert run.images.keys() == {"train", "val", "test"} and run.checkpoint.step == result["steps"]
    assert run.models.keys() == {"last", "ema", "tta_flip", "ema_tta_flip"}
    for name, model in run.models.items():
        prefix = "" if name == "last" else f"{name}_"
        for split in ("val", "test"):
            found = evaluate(model, run.images[split])
            assert found.accuracy == result[f"{prefix}{split}_accuracy"]
            assert found.loss == pytest.approx(result[f"{prefix}{split}_loss"], rel=1e-6)
    # The checkpoint alone is enough.
    other = load(shutil.copy(folder / "last.pt", "copy.pt"), device="cpu")
    mine, theirs = (predict(each.models["ema"], each.images["test"]) for each in (run, other))
    assert torch.equal(mine, theirs)
    with pytest.raises(BadInput, match="there is no checkpoint nowhere"):
        load("nowhere")
