"""Muon: its orthogonal steps, and the split into hidden layers and the rest."""

import numpy as np
import pytest
import torch

from lib.core.registry import optimizers
from lib.optim.muon import orthogonalized
from lib.optim.param_groups import ParamGroups
from tests.helpers import optim_references as references
from tests.helpers.networks import Blocks
from tests.helpers.optim_references import gradient


def test_orthogonalized_matrices_have_singular_values_near_1():
    torch.manual_seed(0)
    matrices = torch.randn(5, 24, 40)
    values = torch.linalg.svdvals(orthogonalized(matrices, 5))
    assert values.min() > 0.5 and values.max() < 1.3
    assert torch.equal(orthogonalized(matrices.mT, 5), orthogonalized(matrices, 5).mT)


def test_muon_on_matrices_equals_torchs_in_float32(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x)  # in which torch orthogonalizes, on a CPU too
    mine, theirs = (torch.randn(24, 8, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    one = optimizers["muon"].build(params=[{"params": [mine]}], lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)
    for t in range(10):
        for w, optimizer in ((mine, one), (theirs, other)):
            w.grad = gradient(w, t)
            optimizer.step()
    torch.testing.assert_close(mine, theirs)


def test_muon_orthogonalizes_each_group_of_a_grouped_convolution_separately():
    w = torch.randn(6, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    expected, options = w.detach().numpy().copy(), {"momentum": 0.8, "nesterov": True, "iterations": 5}
    optimizer = optimizers["muon"].build(
        params=[{"params": [w], "matrices": [3]}], lr=0.1, weight_decay=0.1, **options
    )
    rule = references.Muon(decay=0.1, count=3, **options)
    for t in range(3):
        w.grad = gradient(w.detach(), t)
        optimizer.step()
        expected = rule(expected, gradient(expected, t), 0.1)
    np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("rest", ["adamw", "sgd"])
def test_muon_gives_all_but_hidden_layers_to_the_other_optimizer(rest):
    model = Blocks()
    optimizer = optimizers["muon"].build(params=ParamGroups()(model), rest=rest)
    hidden, others = (
        {id(p) for group in part.param_groups for p in group["params"]} for part in optimizer.parts.values()
    )
    names = dict(model.named_parameters())
    matrices = ["stem.weight", "blocks.0.mix.weight", "blocks.1.mix.weight", "attention.in_proj_weight"]
    assert hidden == {id(names[key]) for key in [*matrices, "attention.out_proj.weight"]}
    assert hidden | others == {id(p) for p in names.values()}
    rates = {group["lr"] for group in optimizer.parts["rest"].param_groups}
    assert rates == {{"adamw": 3e-4, "sgd": 0.1}[rest]}
