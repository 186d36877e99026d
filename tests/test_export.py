"""`python -m scripts.export`: the formats are read back with their own libraries, on images in 0..1."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lib
from lib.core.registry import models
from lib.data.base import DataSpec, Split
from lib.data.synthetic import synthetic
from lib.engine.evaluate import refresh_statistics
from scripts import export
from tests.helpers.networks import families, macs

pytestmark = pytest.mark.usefixtures("undrawn")
onnxruntime = pytest.importorskip("onnxruntime", reason="the group export is not installed")
pytest.importorskip("onnxscript", reason="the group export is not installed")


def read_onnx(path: Path, x: Tensor) -> tuple[Tensor, dict[str, str]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": x.numpy()})
    return torch.from_numpy(logits), session.get_modelmeta().custom_metadata_map


def read_torchscript(path: Path, x: Tensor) -> tuple[Tensor, dict[str, str]]:
    files = {"metadata.json": ""}
    return torch.jit.load(path, _extra_files=files)(x), json.loads(files["metadata.json"])


def read_exported(path: Path, x: Tensor) -> tuple[Tensor, dict[str, str]]:
    files = {"metadata.json": ""}
    return torch.export.load(path, extra_files=files).module()(x), json.loads(files["metadata.json"])


def read_safetensors(path: Path, x: Tensor) -> tuple[Tensor, dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata, weights = file.metadata(), {key: file.get_tensor(key) for key in list(file.keys())}
    mean, std = (torch.tensor(json.loads(metadata[key]))[:, None, None] for key in ("mean", "std"))
    model = lib.create_model(metadata["model"], image_size=8)
    model.load_state_dict(weights)
    return model.eval()((x - mean) / std), metadata


READERS = {
    "onnx": read_onnx,
    "torchscript": read_torchscript,
    "exported": read_exported,
    "safetensors": read_safetensors,
}


@pytest.mark.parametrize("form", export.FORMATS)
def test_an_export_gives_the_recorded_predictions_for_images_in_0_to_1(run, capsys, form):
    assert export.main(["run", "--to", form, "-o", "model"]) == 0
    result = json.loads((run / "result.json").read_text())
    x, y = synthetic(size=120, image_size=8).test.x.float() / 255, np.load(run / "predictions.npz")
    with torch.no_grad():
        logits, metadata = READERS[form](Path("model"), x)
    torch.testing.assert_close(logits, torch.from_numpy(y["logits"]), atol=1e-4, rtol=1e-4)
    assert json.loads(metadata["classes"]) == [f"class {k}" for k in range(10)]
    assert float(metadata["test_accuracy"]) == result["test_accuracy"] and metadata["dataset"] == "synthetic"
    accuracy = f"{result['test_accuracy']:.2f} %"
    said = capsys.readouterr().out
    assert f"the run has {accuracy} accuracy, the export {accuracy}" in said and "on 30 test images" in said


def test_without_the_data_the_comparison_is_on_random_images(run, capsys, monkeypatch):
    def gone(*arguments, **options):
        raise lib.BadInput("the images are gone")

    monkeypatch.setattr("lib.factory.load.build_dataset", gone)
    assert export.main(["run", "--to", "safetensors", "--network", "ema_tta_flip"]) == 0
    said = capsys.readouterr().out
    assert "the images are gone" in said and "on 200 random images" in said
    assert (run / "ema_tta_flip.safetensors").exists()


def test_an_export_that_differs_from_the_run_is_not_written(run, capsys, monkeypatch):
    monkeypatch.setitem(
        export.FORMATS,
        "onnx",
        export.Format("onnx", lambda *_: b"", lambda *_: lambda x: torch.zeros(len(x), 10)),
    )
    assert export.main(["run", "--to", "onnx"]) == 2
    assert "the export is not the network of the run" in capsys.readouterr().err
    assert not (run / "last.onnx").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nowhere --to onnx", "there is no checkpoint nowhere"),
        ("run --to onnx --network swa", "run/last.pt has no network 'swa'; it has last"),
    ],
)
def test_a_missing_run_or_network_is_refused_in_one_line(run, capsys, line, said):
    assert export.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def coarse_images(count: int) -> Tensor:
    """Images in 0..1 that differ as real ones do; noise is so alike that BatchNorm magnifies rounding."""
    return F.interpolate(torch.rand(count, 3, 2, 2), size=32, mode="bicubic").clamp(0, 1)


def assert_onnx_agrees(name: str, **options) -> None:
    """The ONNX of a model gives its logits, in onnxruntime, for one, two and five images."""
    spec = DataSpec((3, 32, 32), tuple(map(str, range(10))), mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.25))
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    model, images = lib.create_model(name, **options), Split(255 * coarse_images(64), torch.zeros(64))
    # With the initial statistics logits may vanish or explode.
    refresh_statistics(model, images, lambda x: (x / 255 - mean) / std, "fp32")
    model.eval()
    with export.quiet():
        data = export.dump_onnx(export.standalone(model, spec), torch.zeros(2, 3, 32, 32), {})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for size in (1, 2, 5):
        x = coarse_images(size)
        with torch.no_grad():
            expected = model((x - mean) / std)
            exact = deepcopy(model).double()(((x - mean) / std).double())
        (logits,) = session.run(None, {"images": x.numpy()})
        # Hundreds of layers amplify the rounding of float32, by which both differ from float64.
        rounding, bound = (expected - exact).abs().max().item(), export.TOLERANCE * exact.abs().max().item()
        assert rounding < 10 * bound  # beyond it, the comparison would say nothing
        allowed = max(bound, 4 * rounding)
        torch.testing.assert_close(torch.from_numpy(logits).double(), exact, atol=allowed, rtol=0)


def test_the_onnx_of_a_model_with_a_class_token_takes_any_number_of_images():
    assert_onnx_agrees("vit", depth=1, width=16)


def is_large(name: str) -> bool:
    """Whether the export takes minutes or gigabytes; such a model has the layers of a smaller one."""
    return (models[name].facts.params or 0) > 30e6 or macs().get(name, 0) > 1.5e9


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted({*families(), *(name for name in models.names() if not is_large(name))})
)
def test_the_onnx_of_every_model_agrees_with_it(name):
    assert_onnx_agrees(name)
