"""Contracts of every surgery: what it changes and keeps, which networks it refuses, and that they train."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lib.core.errors import BadInput
from lib.core.facts import Part
from lib.core.registry import surgeries
from lib.engine.step import Run, train_step
from lib.factory import build
from lib.graph.branches import residual_branches
from lib.graph.cost import count_macs
from tests.helpers.surgery import CPU, SHAPE, config_of, images, network

NAMES = surgeries.names()
NO_BRANCHES = set(Part) - {Part.BRANCH, Part.CONVOLUTIONAL_BRANCH}
# Small networks of many families, with the parts that they have.
PARTS = {
    "resnet20": set(Part),
    "resnet_preact": set(Part),
    "wrn_10_1": set(Part),
    "resnet9": set(Part),
    "densenet_bc_10_4": NO_BRANCHES,
    "vgg11": NO_BRANCHES,
    "cct_2": {Part.STRIDE, Part.BRANCH, Part.HEAD},
    "vit_tiny": {Part.BRANCH, Part.HEAD},
}
SLOW = {"vgg11", "vit_tiny"}
PAIRS = [(name, model) for name in NAMES for model in PARTS]
ACCEPTED = [pair for pair in PAIRS if surgeries[pair[0]].facts.needs in PARTS[pair[1]]]
REFUSED = [pair for pair in PAIRS if pair not in ACCEPTED]


def accepted(*slow: str) -> list:
    """The accepted pairs; those with a network in `slow` run in the slow set only."""
    return [pytest.param(n, m, marks=pytest.mark.slow if m in SLOW | {*slow} else ()) for n, m in ACCEPTED]


def logits(model: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return model(x)


def weights_of(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.params])


@pytest.mark.parametrize(("name", "model"), accepted())
def test_a_surgery_changes_the_function_or_what_is_trained(name, model):
    plain, changed = network(model), network(model, name)
    x = images()
    assert torch.allclose(logits(plain, x), logits(changed, x)) == surgeries[name].facts.freezes
    frozen = sum(not p.requires_grad for p in changed.parameters())
    assert (frozen > 0) == surgeries[name].facts.freezes


@pytest.mark.parametrize(("name", "model"), accepted())
def test_a_surgery_keeps_the_state_keys_and_initial_values_of_the_plain_network(name, model):
    state = network(model, name).state_dict()
    for key, tensor in network(model).state_dict().items():
        assert torch.equal(state[key], tensor), key


@pytest.mark.parametrize(("name", "model"), accepted())
def test_a_copy_and_a_loaded_state_dict_equal_the_changed_network(name, model):
    changed, x = network(model, name), images()
    twin, other = copy.deepcopy(changed), network(model, name, **{"train.seed": 1})
    other.load_state_dict(changed.state_dict())
    for each in (twin, other):
        assert torch.equal(logits(each, x), logits(changed, x))
    with torch.no_grad():
        for p in changed.parameters():
            p.zero_()
    assert torch.equal(logits(twin, x), logits(other, x))  # neither shares a tensor with the original


@pytest.mark.parametrize(("name", "model"), accepted("resnet20", "densenet_bc_10_4", "resnet_preact"))
def test_a_changed_network_trains_with_sam_bf16_accumulation_and_ema(name, model):
    ways = {"wrap.sam": True, "train.precision": "bf16", "train.accumulate": 2, "average.ema": True}
    config = config_of(model, name, **ways)
    run, again = (build(config, CPU, note=pytest.fail) for _ in range(2))
    start = weights_of(run)
    assert train_step(run, 0).isfinite()
    train_step(again, 0)
    assert weights_of(run).isfinite().all()
    assert not torch.equal(weights_of(run), start)
    assert torch.equal(weights_of(run), weights_of(again))


@pytest.mark.parametrize(("name", "model"), REFUSED)
def test_a_network_without_the_needed_part_is_refused_in_one_line(name, model):
    with pytest.raises(BadInput, match=f"surgery {name}: the model has no .+") as refusal:
        network(model, name)
    assert "\n" not in str(refusal.value)


def test_the_order_of_the_flags_does_not_change_the_order_of_the_surgeries():
    one, other = network("resnet20", *NAMES), network("resnet20", *NAMES[::-1])
    assert list(one.state_dict()) == list(other.state_dict())
    assert torch.equal(logits(one, images()), logits(other, images()))
    grafts = [list(m.grafts._modules) for m in one.modules() if "grafts" in m._modules]
    assert ["squeeze_excite", "stochastic_depth"] in grafts


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_network_compiles_to_the_same_function(name):
    model = network("wrn_10_1", name).eval()
    x = images(2)
    compiled = torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True)
    torch.compiler.reset()
    torch.testing.assert_close(compiled(x), model(x))


def test_multiply_accumulates_include_the_surgery():
    plain = count_macs(network("wrn_10_1"), SHAPE)
    assert count_macs(network("wrn_10_1", "blurpool"), SHAPE) > 1.3 * plain
    gates = sum(2 * b.shape[0] * (b.shape[0] // 16) for b in residual_branches(network("wrn_10_1"), SHAPE))
    assert count_macs(network("wrn_10_1", "squeeze_excite"), SHAPE) == plain + gates


@pytest.mark.parametrize(
    ("field", "value"),
    [("stochastic_depth.rate", 1), ("stochastic_depth.rate", 0), ("dropout.rate", 1.5), ("blurpool.size", 4),
     ("ghost_batchnorm.size", 0), ("squeeze_excite.ratio", 0)],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_with_its_rule(field, value):
    with pytest.raises(BadInput, match=f"{field.partition('.')[2]} must be .*, got {value}"):
        network("resnet20", **{f"surgery.{field}": value})


def test_every_surgery_is_a_function_of_its_own_and_cites_a_paper():
    functions = [surgeries.function(name) for name in NAMES]
    assert len(functions) == len(set(functions))
    assert all(surgeries[name].facts.paper for name in NAMES)
