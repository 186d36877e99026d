"""Test-time augmentation: the views and their weights, and the evaluation of their mean."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import ten_crop

import train
from lib.augment.test_time import MeanOfViews
from lib.core.registry import tta

VIEWS = tta.names()
every = pytest.mark.parametrize("name", VIEWS)
MEANS = [name for name in VIEWS if isinstance(tta[name].build(model=nn.Identity()), MeanOfViews)]
shapes = pytest.mark.parametrize("shape", [(2, 3, 12, 12), (3, 1, 10, 16), (1, 3, 9, 7)], ids=str)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def views_of(name: str, x: Tensor, **options) -> list[tuple[float, Tensor]]:
    return list(tta[name].build(model=nn.Identity(), **options).views(x))


def padded(x: Tensor, by: int) -> np.ndarray:
    return np.pad(x.numpy(), ((0, 0), (0, 0), (by, by), (by, by)), mode="reflect")


class MeanColour(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) @ noise(x.shape[1], 5)


mean_colour = MeanColour()


def by_hand(name: str, x: Tensor) -> list[tuple[float, np.ndarray]]:
    """The views with their weights, without torch."""
    H, W = x.shape[2:]
    if name == "tta_flip":
        plain = [(1 / 2, x.numpy())]
    elif name in ("tta_shifts", "tta_unsure"):  # tanh keeps every probability below 0.8
        big = padded(x, 1)
        plain = [(1 / 4, x.numpy()), (1 / 8, big[:, :, :H, :W]), (1 / 8, big[:, :, 2:, 2:])]
    else:
        big = padded(x, 4)
        corners = [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]
        plain = [(1 / 10, big[:, :, top : top + H, left : left + W]) for top, left in corners]
    return [pair for weight, view in plain for pair in ((weight, view), (weight, view[:, :, :, ::-1]))]


@pytest.mark.parametrize("name", MEANS)
@shapes
def test_views_have_the_shape_of_the_image_and_weights_sum_to_one(name, shape):
    views = views_of(name, noise(*shape))
    assert sum(weight for weight, _ in views) == pytest.approx(1, abs=1e-12)
    assert all(weight > 0 and view.shape == shape for weight, view in views)


@every
@shapes
def test_logits_are_the_weighted_mean_over_the_views(name, shape):
    x, C, (H, W) = noise(*shape), shape[1], shape[2:]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(C * H * W, 5), nn.Tanh()
    )  # not linear, so that the views matter
    expected = sum(
        weight * model(torch.from_numpy(np.ascontiguousarray(view))) for weight, view in by_hand(name, x)
    )
    torch.testing.assert_close(tta[name].build(model=model)(x), expected)


@every
def test_views_of_an_image_of_one_colour_have_that_colour(name):
    x = noise(4, 3, 1, 1).expand(4, 3, 12, 10)
    torch.testing.assert_close(tta[name].build(model=mean_colour)(x), mean_colour(x))


def test_a_mirror_image_has_the_same_mean_colour():
    x = noise(4, 3, 12, 10)
    torch.testing.assert_close(tta["tta_flip"].build(model=mean_colour)(x), mean_colour(x))


@shapes
@pytest.mark.parametrize("padding", [1, 4])
def test_ten_crops_are_torchvisions_of_the_padded_image(shape, padding):
    x = noise(*shape)
    views = [view for _, view in views_of("tta_ten_crop", x, padding=padding)]
    expected = ten_crop(torch.from_numpy(padded(x, padding)), shape[2:])
    assert len(views) == len(expected) == 10
    # The last five of torchvision are crops of the mirrored image, with left and right exchanged. Here each
    # crop is followed by its own mirror image.
    ours = views[0::2] + [views[i] for i in (3, 1, 7, 5, 9)]
    for view, crop in zip(ours, expected, strict=True):
        assert torch.equal(view, crop)


def test_only_unsure_images_get_more_views_whatever_their_batch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    x = noise(40, 3, 8, 8) * torch.linspace(0.1, 8, 40).view(-1, 1, 1, 1)
    sure = model(x).softmax(1).amax(1) >= 0.7
    assert 5 < sure.sum() < 35
    unsure = tta["tta_unsure"].build(model=model, below=0.7)
    shifts = tta["tta_shifts"].build(model=model)
    expected = torch.where(sure[:, None], model(x), shifts(x))
    torch.testing.assert_close(unsure(x), expected)
    torch.testing.assert_close(torch.cat([unsure(image[None]) for image in x]), expected)


@every
def test_logits_are_float32_and_the_mode_is_the_models(name):
    model = nn.Sequential(nn.Dropout(), nn.Flatten()).eval()
    wrapped = tta[name].build(model=model)
    assert not wrapped.training and not model.training
    assert wrapped(noise(2, 1, 8, 8).bfloat16()).dtype == torch.float32


@every
def test_views_add_no_parameters(name):
    model = nn.Linear(2, 2)
    assert list(tta[name].build(model=model).parameters()) == list(model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tta_shifts", {"pixels": 0}, "pixels must be at least 1, got 0"),
        ("tta_ten_crop", {"padding": -1}, "padding must be at least 1, got -1"),
        ("tta_unsure", {"pixels": 0}, "pixels must be at least 1, got 0"),
        ("tta_unsure", {"below": 0.0}, "below must be above 0 and at most 1, got 0.0"),
    ],
)
def test_values_out_of_bounds_are_rejected(name, options, message):
    with pytest.raises(ValueError, match=message):
        tta[name].build(model=nn.Identity(), **options)


def test_a_run_evaluates_views_of_the_model_and_its_averages_at_the_end(tiny):
    line = "--tta-flip --tta-shifts --tta-ten-crop 2 --tta-unsure 1.0 --ema --output-dir run"
    assert train.main(["--config", tiny, *line.split()]) == 0
    with open("run/result.json") as file:
        result = json.load(file)
    with np.load("run/predictions.npz") as arrays:
        predicted = dict(arrays)
    names = {f"{average}{name}_" for average in ("", "ema_") for name in VIEWS}
    for name in names:
        right = (predicted[f"{name}logits"].argmax(1) == predicted["y"]).mean() * 100
        assert result[f"{name}test_accuracy"] == pytest.approx(right)
        assert result[f"{name}test_loss"] > 0
        assert not np.array_equal(predicted[f"{name}logits"], predicted["logits"])
    with open("run/metrics.jsonl") as file:
        first, last = map(json.loads, file)
    assert not any("tta" in key for key in first)  # they take several evaluations, so only at the end
    assert {f"{name}test_accuracy" for name in names} <= set(last)
