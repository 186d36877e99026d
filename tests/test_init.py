"""Initialisations against the formulas of their papers, alone and in a network."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.config.cli import parse
from lib.config.schema import Config
from lib.core.errors import BadInput
from lib.core.registry import initialisations
from lib.engine.step import train_step
from lib.factory import build, build_dataset, build_model
from lib.init.whitening import principal_components

CPU = torch.device("cpu")
SHAPE = (3, 16, 16)
SMALL = {
    "data.name": "synthetic", "data.size": 40, "data.classes": 4, "data.image_size": 16, "train.epochs": 1,
    "train.batch_size": 8, "schedule.name": "constant", "model.name": "resnet20",
}  # fmt: skip
DRAWS = [name for name in initialisations.names() if initialisations[name].facts.draws]


def config_of(**settings: object) -> Config:
    return parse([f"{key}={value}" for key, value in (SMALL | settings).items()]).config()


def network(**settings: object) -> nn.Module:
    return build_model(config_of(**settings), SHAPE, 4)


def initialise(name: str, model: nn.Module, images: Tensor | None = None, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return initialisations[name].build(model=model, shape=SHAPE, images=lambda: images, **options)


def smooth_images(count: int = 300) -> Tensor:
    """Images with correlated neighbours and channels, as in photographs."""
    noise = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(noise, 3, 1, 1) + 0.3 * noise + noise.mean(1, keepdim=True)


def layers() -> list[nn.Module]:
    """A wide, a grouped and a depthwise convolution, and a linear layer."""
    return [nn.Conv2d(64, 96, 3), nn.Conv2d(64, 128, 3, groups=4), nn.Conv2d(512, 512, 5, groups=512),
            nn.Linear(300, 200)]  # fmt: skip


# fan in and fan out of these layers
FANS = [(64 * 9, 96 * 9), (16 * 9, 32 * 9), (25, 25), (300, 200)]


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize(
    ("name", "options", "variance"),
    [
        ("xavier", {}, lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("kaiming", {"mode": "fan_in"}, lambda fan_in, fan_out: 2 / fan_in),
        ("kaiming", {"mode": "fan_out"}, lambda fan_in, fan_out: 2 / fan_out),
    ],
)
def test_drawn_weights_have_the_variance_of_the_formula(name, options, variance, distribution):
    for layer, fans in zip(layers(), FANS, strict=True):
        initialise(name, nn.Sequential(layer), distribution=distribution, **options)
        weight, std = layer.weight.double(), variance(*fans) ** 0.5
        # The error of a standard deviation of n draws is below std / sqrt(2 n), doubled for safety.
        assert weight.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * weight.numel()))
        assert abs(weight.mean().item()) < 4 * std / math.sqrt(weight.numel())
        bound = weight.abs().max().item() / std
        assert (bound <= 3**0.5 + 1e-6) if distribution == "uniform" else bound > 3
        assert not layer.bias.any()


def test_the_distributions_of_the_papers_are_the_defaults():
    config = config_of(**{"init.xavier": True})
    assert config.tricks["init"]["xavier"].options == {"distribution": "uniform"}
    config = config_of(**{"init.kaiming": True})
    assert config.tricks["init"]["kaiming"].options == {"mode": "fan_in", "distribution": "normal"}


@pytest.mark.parametrize("gain", [1.0, 2**0.5])
def test_orthogonal_weights_are_orthonormal(gain):
    for layer in [*layers(), nn.Linear(30, 40)]:
        initialise("orthogonal", nn.Sequential(layer), gain=gain)
        groups = getattr(layer, "groups", 1)
        for w in layer.weight.flatten(1).double().chunk(groups)[:5]:
            product = w @ w.T if len(w) <= w.shape[1] else w.T @ w
            torch.testing.assert_close(product, gain**2 * torch.eye(len(product)).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("layer", "passed"),
    [(nn.Conv2d(6, 6, 3, padding=1), 6), (nn.Conv2d(6, 9, 5, padding=2), 6),
     (nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6), 6), (nn.Conv2d(6, 6, 3, padding="same"), 6)],
    ids=str,
)  # fmt: skip
def test_dirac_convolutions_copy_their_input(layer, passed):
    before = layer.weight.clone()
    initialise("dirac", nn.Sequential(layer))
    x = torch.randn(2, 6, 7, 7)
    torch.testing.assert_close(layer(x)[:, :passed], x)
    assert torch.equal(layer.weight[passed:], before[passed:])


def test_dirac_refuses_convolutions_that_cannot_copy_their_input():
    left = [nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 1),
            nn.Conv2d(3, 3, 2)]  # fmt: skip
    for layer in left:
        with pytest.raises(ValueError, match="no plain convolution"):
            initialise("dirac", nn.Sequential(layer))


def test_zero_gamma_makes_residual_blocks_identities_that_can_learn():
    net = network(**{"init.zero_gamma": True, "model.shortcut": "B"})
    for block in net.stages:
        x = torch.randn(4, block.residual[0].in_channels, 8, 8)
        torch.testing.assert_close(block(x), F.relu(block.shortcut(x)))
    net(torch.randn(4, *SHAPE)).square().sum().backward()
    ends = [block.residual[-1] for block in net.stages]
    assert all(not end.weight.any() and end.weight.grad.abs().sum() > 0 for end in ends)
    ones = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and m not in ends]
    assert all((m.weight == 1).all() for m in ones)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"init.zero_gamma": True, "model.name": "densenet_bc_10_4"},
            "zero_gamma: the model has no residual branch",
        ),
        ({"init.zero_gamma": True, "model.name": "wrn_10_1"}, "zero_gamma: the model has no residual branch"),
        ({"init.zero_gamma": True, "model.name": "resnet9"}, "zero_gamma: the model has no residual branch"),
        ({"init.zero_gamma": True, "surgery.frozen_bn": True}, "scales are frozen"),
        ({"init.dirac": True, "model.name": "vit_tiny"}, "dirac: the model has no plain convolution"),
        (
            {"init.whitening": True, "surgery.weight_standardization": True},
            "whitening: the model has no plain",
        ),
        ({"init.kaiming": True, "init.xavier": True}, "kaiming and xavier are two ways to draw all weights"),
        ({"init.orthogonal.gain": 0}, "gain must be above 0, got 0"),
        ({"init.whitening.eps": -1}, "eps must be at least 0, got -1"),
    ],
    ids=str,
)
def test_an_initialisation_that_does_not_apply_is_refused_with_its_reason(settings, reason):
    with pytest.raises(BadInput, match=reason):
        network(**settings)


@pytest.mark.parametrize("kernel", [2, 3])
def test_whitened_patches_have_the_identity_as_covariance(kernel):
    images, size = smooth_images(), 3 * kernel**2
    first = nn.Conv2d(3, 2 * size + 5, kernel, bias=False)
    rest = first.weight[2 * size :].clone()
    initialise("whitening", nn.Sequential(first), images, eps=1e-9)
    out = first(images).transpose(0, 1).flatten(1).double()[: 2 * size]
    moment = out[:size] @ out[:size].T / out.shape[1]
    torch.testing.assert_close(moment, torch.eye(size).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[size:], -out[:size])
    assert torch.equal(first.weight[2 * size :], rest)


def test_a_narrow_first_convolution_gets_the_largest_components():
    images = smooth_images()
    first = nn.Conv2d(3, 8, 3, padding=1)
    initialise("whitening", nn.Sequential(first), images)
    patches = images.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 27).double()
    _, values, vectors = torch.linalg.svd(patches, full_matrices=False)
    values = values**2 / len(patches)
    expected = vectors[:4] / (values[:4, None] + 5e-4).sqrt()
    w = first.weight.flatten(1).double()
    for filters in (w[:4], -w[4:]):
        alike = (F.normalize(filters) * F.normalize(expected)).sum(1).abs()
        torch.testing.assert_close(alike, torch.ones(4).double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(filters.norm(dim=1), expected.norm(dim=1), atol=0, rtol=1e-4)
    found = principal_components(images, (3, 3))[0]
    torch.testing.assert_close(found, values, atol=1e-5, rtol=1e-3)


def test_whitening_reads_the_normalised_training_images_and_may_freeze():
    config = config_of(
        **{"model.name": "airbench94", "init.whitening.eps": 1e-9, "train.channels_last": False}
    )
    run = build(config, CPU, note=pytest.fail)
    x = run.normalize(build_dataset(config).train.x)
    out = F.conv2d(x, run.model.whiten.weight)[:, :12].transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(out @ out.T / out.shape[1], torch.eye(12).double(), atol=1e-3, rtol=0)
    assert not run.model.whiten.weight.requires_grad  # as the model has it
    run = build(config_of(**{"init.whitening.freeze": True}), CPU, note=pytest.fail)
    first = run.model.stem[0].weight
    before = first.clone()
    train_step(run, 0)
    assert torch.equal(first, before) and all(p is not first for p in run.params)
    assert (
        build(config_of(**{"init.whitening": True}), CPU, note=pytest.fail).model.stem[0].weight.requires_grad
    )


@pytest.mark.parametrize("name", initialisations.names())
def test_the_seed_determines_the_weights_bit_for_bit(name):
    def weights(seed: int, *more: str) -> Tensor:
        settings = {f"init.{each}": True for each in (name, *more)}
        run = build(config_of(**settings, **{"train.seed": seed}), CPU, note=pytest.fail)
        return torch.cat([t.flatten().float() for t in run.model.state_dict().values()])

    first = weights(0)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)
    assert not torch.equal(first, torch.cat([t.flatten().float() for t in network().state_dict().values()]))
    run = build(config_of(**{f"init.{name}": True}), CPU, note=pytest.fail)
    assert train_step(run, 0).isfinite()


@pytest.mark.parametrize("name", DRAWS)
def test_drawn_weights_are_overwritten_whatever_the_order_of_the_flags(name):
    one = network(**{f"init.{n}": True for n in (name, "dirac", "whitening", "zero_gamma")})
    other = network(**{f"init.{n}": True for n in ("zero_gamma", "whitening", "dirac", name)})
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not one.stages[0].residual[-1].weight.any()
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(one.stages[0].residual[0](x), x)
    torch.testing.assert_close(one.stem[0].weight[:8], -one.stem[0].weight[8:])


def test_an_initialisation_can_be_chosen_by_name():
    def chosen(line: str) -> dict:
        tricks = parse(line.split()).config().tricks["init"]
        return {name: choice.options for name, choice in tricks.items()}

    fan_out = {"kaiming": {"mode": "fan_out", "distribution": "normal"}}
    assert chosen("--init kaiming --init.mode fan_out") == fan_out
    assert chosen("--kaiming fan_out") == fan_out == chosen("--init he init.kaiming.mode=fan_out")
    assert list(chosen("--init orthogonal,zero_gamma")) == ["orthogonal", "zero_gamma"]
    assert chosen("--init default") == {} == chosen("--seed 1")
    with pytest.raises(BadInput, match=r"unknown initialisation 'kaimin': did you mean kaiming\?"):
        chosen("--init kaimin")


def test_initial_weights_that_a_checkpoint_replaces_are_reported(tmp_path):
    from lib.store import checkpoint

    run = build(config_of(), CPU, note=pytest.fail)
    checkpoint.save(tmp_path / "last.pt", run, 0, {}, None, "")
    notes = []
    settings = {"train.init_from": tmp_path, "init.kaiming": True}
    later = build(config_of(**settings), CPU, note=notes.append)
    assert notes == ["the weights of train.init_from replace those of init: kaiming"]
    for a, b in zip(run.model.state_dict().values(), later.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
